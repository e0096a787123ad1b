/** What a host does for webhooks: one request over its network. How it keeps it from private addresses is its business. */

export interface PostRequest {
  readonly url: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
  /** For everything, from the name to the end of the answer; once the status is there, the rest is not missed. */
  readonly timeoutMs: number
  readonly mayBePrivate: boolean
  /** The host is stopping. */
  readonly signal: AbortSignal
}

export interface PostAnswer {
  readonly status: number
  readonly retryAfter: string | undefined
}

/** Never follows a redirect and goes by no proxy. Rejects with `Undelivered` when there was no answer. */
export type Post = (request: PostRequest) => Promise<PostAnswer>

/** The message is shown to the tenant: it says no more of a network than whether it could be reached. */
export class Undelivered extends Error {
  override readonly name = 'Undelivered'
}

export const NOT_PUBLIC = 'the address is not one of the public internet'
export const TOO_LATE = 'no answer in time'
export const UNREACHABLE = 'the receiver could not be reached'
/** Of an answer; nobody keeps it, and what is longer is not waited for. */
export const MAX_ANSWER_BYTES = 16 * 1024
