/**
 * Every "no" that a caller can hear: one table, rendered by each dialect in its own shape.
 *
 * The codes are API: a client may switch on them, so one is never renamed or reused. A runner names the same
 * codes in `reject` and in the exit mark, so that an answer reads the same wherever it was decided.
 */
type Rule = { readonly status: number; readonly retryable: boolean; readonly title: string }

export const FAULTS = {
  bad_json: { status: 400, retryable: false, title: 'the body is not valid JSON' },
  invalid_request: { status: 400, retryable: false, title: 'the request is not valid' },
  token_in_query: { status: 400, retryable: false, title: 'a token does not belong in a URL' },
  cwd: { status: 400, retryable: false, title: 'the working directory cannot be used' },
  agent_not_found: { status: 400, retryable: false, title: 'no such agent' },
  session_cwd: { status: 400, retryable: false, title: 'a session keeps the directory it was started in' },
  event_id: { status: 400, retryable: false, title: 'no such event id' },
  unauthenticated: { status: 401, retryable: false, title: 'no valid token' },
  budget: { status: 402, retryable: false, title: 'the budget does not allow this' },
  forbidden: { status: 403, retryable: false, title: 'the token does not allow this' },
  origin: { status: 403, retryable: false, title: 'this origin is not on the list' },
  host: { status: 403, retryable: false, title: 'this host name is not on the list' },
  policy: { status: 403, retryable: false, title: "the runner's policy does not allow this" },
  not_found: { status: 404, retryable: false, title: 'no such thing' },
  run_not_found: { status: 404, retryable: false, title: 'no such run' },
  session_not_found: { status: 404, retryable: false, title: 'no such session' },
  conflict: { status: 409, retryable: false, title: 'it is there already, or was changed meanwhile' },
  session_inactive: { status: 409, retryable: false, title: 'the session takes no more runs' },
  session_busy: { status: 409, retryable: true, title: 'the session has a turn in progress' },
  idempotency: { status: 422, retryable: false, title: 'the key belongs to another request' },
  pruned: { status: 410, retryable: false, title: 'these events are no longer kept' },
  too_large: { status: 413, retryable: false, title: 'the body is too large' },
  media_type: { status: 415, retryable: false, title: 'the body must be JSON' },
  version: { status: 426, retryable: false, title: 'no common protocol version' },
  busy: { status: 429, retryable: true, title: 'every slot is taken' },
  rate: { status: 429, retryable: true, title: 'too many requests' },
  concurrency: { status: 429, retryable: true, title: 'too many runs at once' },
  internal: { status: 500, retryable: false, title: 'an error of the router' },
  unknown_provider: { status: 502, retryable: false, title: 'the runner has no such provider' },
  issuer: { status: 503, retryable: true, title: 'the issuer of the token cannot be asked' },
  cli: { status: 502, retryable: true, title: 'the CLI could not be started' },
  no_runner: { status: 503, retryable: true, title: 'no runner can take this run' },
  disk: { status: 503, retryable: true, title: 'no space to keep the run' },
  draining: { status: 503, retryable: true, title: 'shutting down' },
  storage: { status: 503, retryable: true, title: 'the database does not take writes' },
  start_by: { status: 504, retryable: true, title: 'the runner did not answer in time' },
} as const satisfies Record<string, Rule>

export type FaultCode = keyof typeof FAULTS

/** A "no" that the client must hear. `message` is shown to it: name the thing and its state, leak nothing. */
export class Fault extends Error {
  readonly code: FaultCode
  /** The run may start all the same: a second attempt without an Idempotency-Key could make two. */
  readonly mayStart: boolean
  /** Seconds for a `Retry-After` header. */
  readonly retryAfterS: number | undefined
  /** Members added to the problem document, such as `field` or `oldest`. */
  readonly extra: Readonly<Record<string, unknown>>

  constructor(code: FaultCode, message?: string, options: { retryAfterS?: number; mayStart?: boolean; extra?: Record<string, unknown> } = {}) {
    super(message ?? FAULTS[code].title)
    this.name = 'Fault'
    this.code = code
    this.retryAfterS = options.retryAfterS
    this.mayStart = options.mayStart ?? false
    this.extra = options.extra ?? {}
  }

  get status(): number {
    return FAULTS[this.code].status
  }

  get retryable(): boolean {
    return FAULTS[this.code].retryable && !this.mayStart
  }
}
