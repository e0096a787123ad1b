CREATE TABLE `assertions` (
	`jti` text PRIMARY KEY NOT NULL,
	`expires_at` integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE `enrolments` (
	`hash` text PRIMARY KEY NOT NULL,
	`tenant` text NOT NULL,
	`pool` text NOT NULL,
	`created_at` integer NOT NULL,
	`expires_at` integer NOT NULL,
	`used_at` integer
);
--> statement-breakpoint
CREATE TABLE `idempotency` (
	`tenant` text NOT NULL,
	`key` text NOT NULL,
	`hash` text NOT NULL,
	`run` text NOT NULL,
	`expires_at` integer NOT NULL,
	PRIMARY KEY(`tenant`, `key`)
);
--> statement-breakpoint
CREATE INDEX `idempotency_run` ON `idempotency` (`run`);--> statement-breakpoint
CREATE INDEX `idempotency_expires` ON `idempotency` (`expires_at`);--> statement-breakpoint
CREATE TABLE `probes` (
	`id` integer PRIMARY KEY NOT NULL,
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
CREATE TABLE `runners` (
	`id` text PRIMARY KEY NOT NULL,
	`tenant` text NOT NULL,
	`pool` text NOT NULL,
	`name` text NOT NULL,
	`labels` text NOT NULL,
	`signing_jwk` text NOT NULL,
	`sealing_jwk` text NOT NULL,
	`created_at` integer NOT NULL,
	`last_seen_at` integer,
	`online` text,
	`drained_at` integer,
	`revoked_at` integer
);
--> statement-breakpoint
CREATE INDEX `runners_tenant` ON `runners` (`tenant`,`pool`);--> statement-breakpoint
CREATE INDEX `runners_drained` ON `runners` (`id`) WHERE drained_at IS NOT NULL;--> statement-breakpoint
CREATE INDEX `runners_revoked` ON `runners` (`revoked_at`) WHERE revoked_at IS NOT NULL;--> statement-breakpoint
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
CREATE TABLE `sessions` (
	`id` text PRIMARY KEY NOT NULL,
	`tenant` text NOT NULL,
	`runner` text,
	`cwd` text,
	`cli_id` text,
	`pool` text,
	`title` text,
	`status` text DEFAULT 'active' NOT NULL,
	`model` text,
	`metadata` text,
	`opener` text,
	`opener_at` integer,
	`created_at` integer NOT NULL,
	`updated_at` integer NOT NULL,
	`last_run_at` integer NOT NULL
);
--> statement-breakpoint
CREATE INDEX `sessions_tenant` ON `sessions` (`tenant`,`last_run_at`);--> statement-breakpoint
CREATE INDEX `sessions_by_age` ON `sessions` (`last_run_at`);--> statement-breakpoint
CREATE INDEX `sessions_by_cli_id` ON `sessions` (`tenant`,`cli_id`);--> statement-breakpoint
CREATE TABLE `batches` (
	`id` text PRIMARY KEY NOT NULL,
	`tenant` text NOT NULL,
	`subject` text NOT NULL,
	`size` integer NOT NULL,
	`refused` text NOT NULL,
	`metadata` text,
	`created_at` integer NOT NULL
);
--> statement-breakpoint
CREATE INDEX `batches_tenant` ON `batches` (`tenant`,`id`);--> statement-breakpoint
CREATE TABLE `config_files` (
	`tenant` text NOT NULL,
	`pool` text NOT NULL,
	`kind` text NOT NULL,
	`name` text NOT NULL,
	`content` text NOT NULL,
	`version` integer NOT NULL,
	`updated_by` text NOT NULL,
	`created_at` integer NOT NULL,
	`updated_at` integer NOT NULL,
	PRIMARY KEY(`tenant`, `pool`, `kind`, `name`)
);
--> statement-breakpoint
CREATE TABLE `config_sets` (
	`tenant` text NOT NULL,
	`pool` text NOT NULL,
	`version` integer NOT NULL,
	PRIMARY KEY(`tenant`, `pool`)
);
--> statement-breakpoint
CREATE TABLE `deliveries` (
	`id` text PRIMARY KEY NOT NULL,
	`tenant` text NOT NULL,
	`webhook` text,
	`event` text NOT NULL,
	`run` text,
	`session` text,
	`url` text NOT NULL,
	`origin` text NOT NULL,
	`format` text NOT NULL,
	`body` text,
	`state` text NOT NULL,
	`attempts` integer NOT NULL,
	`next_at` integer,
	`claimed_until` integer,
	`status` integer,
	`error` text,
	`created_at` integer NOT NULL,
	`last_at` integer
);
--> statement-breakpoint
CREATE INDEX `deliveries_tenant` ON `deliveries` (`tenant`,`id`);--> statement-breakpoint
CREATE INDEX `deliveries_run` ON `deliveries` (`run`) WHERE run IS NOT NULL;--> statement-breakpoint
CREATE INDEX `deliveries_due` ON `deliveries` (`next_at`) WHERE next_at IS NOT NULL;--> statement-breakpoint
CREATE INDEX `deliveries_next` ON `deliveries` (`tenant`,`next_at`) WHERE next_at IS NOT NULL;--> statement-breakpoint
CREATE INDEX `deliveries_turn` ON `deliveries` (`tenant`,`origin`,`next_at`) WHERE next_at IS NOT NULL;--> statement-breakpoint
CREATE INDEX `deliveries_claimed` ON `deliveries` (`tenant`,`origin`,`claimed_until`) WHERE claimed_until IS NOT NULL;--> statement-breakpoint
CREATE INDEX `deliveries_session` ON `deliveries` (`session`) WHERE session IS NOT NULL AND body IS NOT NULL;--> statement-breakpoint
CREATE INDEX `deliveries_kept` ON `deliveries` (`id`) WHERE body IS NOT NULL AND state = 'delivered';--> statement-breakpoint
CREATE TABLE `notices` (
	`id` text PRIMARY KEY NOT NULL,
	`tenant` text NOT NULL,
	`event` text NOT NULL,
	`run` text,
	`session` text,
	`at` integer NOT NULL,
	`bare` integer
);
--> statement-breakpoint
CREATE INDEX `notices_at` ON `notices` (`at`);--> statement-breakpoint
CREATE INDEX `notices_session` ON `notices` (`session`) WHERE session IS NOT NULL;--> statement-breakpoint
CREATE TABLE `prompts` (
	`run` text PRIMARY KEY NOT NULL,
	`session` text NOT NULL,
	`text` text NOT NULL
);
--> statement-breakpoint
CREATE INDEX `prompts_session` ON `prompts` (`session`);--> statement-breakpoint
CREATE TABLE `webhooks` (
	`tenant` text NOT NULL,
	`id` text NOT NULL,
	`url` text,
	`sealed_secret` text NOT NULL,
	`sealed_by` text NOT NULL,
	`events` text,
	`format` text NOT NULL,
	`enabled` integer NOT NULL,
	`created_at` integer NOT NULL,
	`updated_at` integer NOT NULL,
	PRIMARY KEY(`tenant`, `id`)
);
--> statement-breakpoint
CREATE INDEX `webhooks_sealed_by` ON `webhooks` (`sealed_by`);--> statement-breakpoint
CREATE TABLE `allowances` (
	`id` text PRIMARY KEY NOT NULL,
	`tenant` text NOT NULL,
	`spent` integer DEFAULT 0 NOT NULL,
	`held` integer DEFAULT 0 NOT NULL,
	`updated_at` integer NOT NULL
);
--> statement-breakpoint
CREATE INDEX `allowances_tenant` ON `allowances` (`tenant`,`id`);--> statement-breakpoint
CREATE TABLE `audit` (
	`id` text PRIMARY KEY NOT NULL,
	`at` integer NOT NULL,
	`tenant` text NOT NULL,
	`actor` text NOT NULL,
	`jti` text NOT NULL,
	`action` text NOT NULL,
	`target` text NOT NULL,
	`before` text,
	`after` text,
	`request_id` text
);
--> statement-breakpoint
CREATE INDEX `audit_tenant` ON `audit` (`tenant`,`id`);--> statement-breakpoint
CREATE TABLE `bindings` (
	`session` text PRIMARY KEY NOT NULL,
	`tenant` text NOT NULL,
	`provider` text NOT NULL,
	`created_at` integer NOT NULL,
	`expires_at` integer NOT NULL
);
--> statement-breakpoint
CREATE INDEX `bindings_provider` ON `bindings` (`tenant`,`provider`,`session`);--> statement-breakpoint
CREATE INDEX `bindings_expires` ON `bindings` (`expires_at`);--> statement-breakpoint
CREATE TABLE `counters` (
	`id` text PRIMARY KEY NOT NULL,
	`n` integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE `credentials` (
	`id` text PRIMARY KEY NOT NULL,
	`hash` text NOT NULL,
	`tenant` text NOT NULL,
	`kind` text NOT NULL,
	`subject` text NOT NULL,
	`scopes` text NOT NULL,
	`narrowing` text,
	`created_at` integer NOT NULL,
	`revoked_at` integer
);
--> statement-breakpoint
CREATE UNIQUE INDEX `credentials_hash` ON `credentials` (`hash`);--> statement-breakpoint
CREATE INDEX `credentials_tenant` ON `credentials` (`tenant`,`id`);--> statement-breakpoint
CREATE TABLE `issuers` (
	`id` text PRIMARY KEY NOT NULL,
	`tenant` text NOT NULL,
	`url` text NOT NULL,
	`audience` text NOT NULL,
	`mapping` text NOT NULL,
	`enabled` integer NOT NULL,
	`created_at` integer NOT NULL
);
--> statement-breakpoint
CREATE UNIQUE INDEX `issuers_url` ON `issuers` (`url`,`audience`);--> statement-breakpoint
CREATE INDEX `issuers_tenant` ON `issuers` (`tenant`,`id`);--> statement-breakpoint
CREATE TABLE `provider_health` (
	`tenant` text NOT NULL,
	`provider` text NOT NULL,
	`model` text DEFAULT '' NOT NULL,
	`state` text DEFAULT 'closed' NOT NULL,
	`failures` integer DEFAULT 0 NOT NULL,
	`open_until` integer,
	`probe_until` integer,
	`reason` text,
	`requests` integer DEFAULT 0 NOT NULL,
	`failed` integer DEFAULT 0 NOT NULL,
	`latency_ms` real,
	`input_tokens` integer DEFAULT 0 NOT NULL,
	`output_tokens` integer DEFAULT 0 NOT NULL,
	`updated_at` integer NOT NULL,
	PRIMARY KEY(`tenant`, `provider`, `model`)
);
--> statement-breakpoint
CREATE TABLE `providers` (
	`tenant` text NOT NULL,
	`id` text NOT NULL,
	`name` text NOT NULL,
	`base_url` text,
	`sealed_key` text,
	`sealed_by` text,
	`version` integer NOT NULL,
	`key_tail` text,
	`key_print` text,
	`env` text NOT NULL,
	`models` text,
	`model_map` text NOT NULL,
	`prices` text,
	`weight` integer NOT NULL,
	`enabled` integer NOT NULL,
	`pools` text,
	`created_at` integer NOT NULL,
	`updated_at` integer NOT NULL,
	PRIMARY KEY(`tenant`, `id`)
);
--> statement-breakpoint
CREATE INDEX `providers_sealed_by` ON `providers` (`sealed_by`);--> statement-breakpoint
CREATE TABLE `rate_limits` (
	`id` text PRIMARY KEY NOT NULL,
	`tat` real NOT NULL
);
--> statement-breakpoint
CREATE TABLE `reservations` (
	`run` text NOT NULL,
	`allowance` text NOT NULL,
	`tenant` text NOT NULL,
	`unit` text NOT NULL,
	`amount` integer NOT NULL,
	`limit_then` integer,
	`charged` integer,
	`estimated` integer,
	`settled_at` integer,
	`created_at` integer NOT NULL,
	PRIMARY KEY(`run`, `allowance`)
);
--> statement-breakpoint
CREATE INDEX `reservations_open` ON `reservations` (`tenant`,`run`) WHERE settled_at IS NULL;--> statement-breakpoint
CREATE INDEX `reservations_settled` ON `reservations` (`settled_at`) WHERE settled_at IS NOT NULL;--> statement-breakpoint
CREATE TABLE `settings` (
	`name` text PRIMARY KEY NOT NULL,
	`value` text NOT NULL,
	`updated_at` integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE `signing_keys` (
	`kid` text PRIMARY KEY NOT NULL,
	`sealed` text,
	`created_at` integer NOT NULL,
	`retired_at` integer
);
--> statement-breakpoint
CREATE TABLE `tenants` (
	`id` text PRIMARY KEY NOT NULL,
	`name` text,
	`settings` text DEFAULT '{}' NOT NULL,
	`disabled_at` integer,
	`revoked_before` integer,
	`created_at` integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE `tokens` (
	`jti` text PRIMARY KEY NOT NULL,
	`tenant` text NOT NULL,
	`kind` text NOT NULL,
	`subject` text NOT NULL,
	`scopes` text NOT NULL,
	`family` text,
	`narrowing` text,
	`created_at` integer NOT NULL,
	`expires_at` integer NOT NULL,
	`revoked_at` integer
);
--> statement-breakpoint
CREATE INDEX `tokens_tenant` ON `tokens` (`tenant`,`jti`);--> statement-breakpoint
CREATE INDEX `tokens_family` ON `tokens` (`tenant`,`family`);