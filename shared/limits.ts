/** Timers and sizes of the wire protocol, in one place because both ends must agree on them. docs/protocol.md explains each. */

/** Bare `ping` from the runner, ± 10 %. */
export const PING_MS = 10_000
/** The router takes a connection for dead this long after its last byte, so within 25 s with its ticks; a runner drops the link after two missed pongs. */
export const DEAD_MS = 23_500
export const LEASE_MS = 60_000
export const HEARTBEAT_MS = 10_000
/** How long a run may live on without a connection. */
export const GRACE_MS = 300_000
/** An offer that was not answered by then is void. */
export const START_BY_MS = 15_000
/** `hello` must be the first message, within this time. */
export const HELLO_MS = 5_000

/** Encoded size of one event message; a longer line travels in parts. */
export const MAX_MESSAGE = 512 * 1024
/** What the router's socket accepts: one message and room for its header. */
export const ROUTER_MAX_PAYLOAD = 1024 * 1024
/** What the runner's socket accepts: an offer with its prompt, system prompts and agents. */
export const RUNNER_MAX_PAYLOAD = 8 * 1024 * 1024
/** About what one message with config files has, encoded; a file that is larger goes alone. */
export const CONFIG_PART_BYTES = 512 * 1024
/** Bytes of one run that may be sent beyond its ack; one message is always allowed, so a large line cannot block itself. */
export const RUN_WINDOW = 256 * 1024
/** The same for all runs of one connection. */
export const CONNECTION_WINDOW = 4 * 1024 * 1024
/** While something is unacknowledged, lines are collected this long or up to this size before they are sent. */
export const COALESCE_MS = 16
export const COALESCE_BYTES = 64 * 1024

/** A longer line is dropped, and a `gap` mark says so. */
export const LINE_CAP = 16 * 1024 * 1024
export const STDERR_CAP = 16 * 1024
/** Unacknowledged bytes of one run on the runner's disk: past the first the CLI's output is paused, past the second the run ends. */
export const SPOOL_SOFT_BYTES = 64 * 1024 * 1024
export const SPOOL_HARD_BYTES = 256 * 1024 * 1024
