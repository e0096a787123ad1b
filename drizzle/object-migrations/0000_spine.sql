CREATE TABLE `offers` (
	`run` text PRIMARY KEY NOT NULL,
	`fence` integer NOT NULL,
	`at` integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE `run_events` (
	`run` text NOT NULL,
	`first` integer NOT NULL,
	`part` integer DEFAULT 0 NOT NULL,
	`parts` integer DEFAULT 1 NOT NULL,
	`count` integer NOT NULL,
	`kind` text NOT NULL,
	`bytes` blob NOT NULL,
	PRIMARY KEY(`run`, `first`, `part`)
);
--> statement-breakpoint
CREATE TABLE `runs` (
	`id` text PRIMARY KEY NOT NULL,
	`tenant` text NOT NULL,
	`subject` text NOT NULL,
	`token` text NOT NULL,
	`session` text NOT NULL,
	`pool` text NOT NULL,
	`runner` text,
	`state` text NOT NULL,
	`fence` integer DEFAULT 0 NOT NULL,
	`cancel_requested_at` integer,
	`labels` text NOT NULL,
	`bound` text,
	`needs` text NOT NULL,
	`priority` integer NOT NULL,
	`queue_until` integer NOT NULL,
	`spec` text,
	`timeout_s` integer NOT NULL,
	`on_disconnect_ms` integer,
	`provider` text,
	`model` text,
	`metadata` text,
	`origin` text DEFAULT 'native' NOT NULL,
	`batch` text,
	`batch_index` integer,
	`task` integer,
	`webhook` text,
	`cwd` text,
	`created_at` integer NOT NULL,
	`started_at` integer,
	`ended_at` integer,
	`last_seq` integer DEFAULT 0 NOT NULL,
	`result_seq` integer,
	`is_error` integer,
	`error_code` text,
	`error_message` text,
	`cost_usd` real,
	`cost_estimated` integer,
	`degraded` integer,
	`usage` text,
	`num_turns` integer,
	`duration_ms` integer,
	`event_bytes` integer,
	`pruned_at` integer
);
--> statement-breakpoint
CREATE INDEX `runs_tenant` ON `runs` (`tenant`,`id`);--> statement-breakpoint
CREATE UNIQUE INDEX `runs_session_turn` ON `runs` (`session`) WHERE state IN ('offered', 'leased', 'running');--> statement-breakpoint
CREATE INDEX `runs_session` ON `runs` (`session`,`id`);--> statement-breakpoint
CREATE INDEX `runs_batch` ON `runs` (`batch`,`batch_index`) WHERE batch IS NOT NULL;--> statement-breakpoint
CREATE INDEX `runs_tasks` ON `runs` (`tenant`,"priority" DESC,`id`,`state`,`cost_usd`) WHERE task = 1;--> statement-breakpoint
CREATE INDEX `runs_ended` ON `runs` (`tenant`,`ended_at`) WHERE ended_at IS NOT NULL;--> statement-breakpoint
CREATE INDEX `runs_live` ON `runs` (`runner`) WHERE ended_at IS NULL;--> statement-breakpoint
CREATE INDEX `runs_queued` ON `runs` (`created_at`) WHERE state = 'queued';--> statement-breakpoint
CREATE INDEX `runs_kept` ON `runs` (`ended_at`,`event_bytes`,`pruned_at`) WHERE ended_at IS NOT NULL AND pruned_at IS NULL;--> statement-breakpoint
CREATE INDEX `runs_pruning` ON `runs` (`pruned_at`) WHERE pruned_at IS NOT NULL AND event_bytes > 0;--> statement-breakpoint
CREATE TABLE `seats` (
	`id` integer PRIMARY KEY NOT NULL,
	`runner` text NOT NULL,
	`tenant` text NOT NULL,
	`pool` text NOT NULL,
	`conns` integer NOT NULL,
	`hello` text,
	`draining` integer NOT NULL,
	`cordoned` integer NOT NULL,
	`lost_at` integer,
	`told` integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE `unsettled` (
	`run` text PRIMARY KEY NOT NULL,
	`version` integer NOT NULL
);
