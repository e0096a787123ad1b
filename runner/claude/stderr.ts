/**
 * The beginning of the CLI's stderr, capped and without secrets.
 *
 * The rest is read and dropped, so that the CLI never blocks on it.
 */
import { STDERR_CAP } from '../../shared/limits.ts'
import type { StderrMark } from '../../shared/marks.ts'
import { redact, secretsIn } from './env.ts'

export class StderrHead {
  readonly #secrets: readonly string[]
  readonly #longest: number
  readonly #keepBytes: number
  #chunks: Uint8Array[] = []
  #bytes = 0

  /** `env` is the CLI's environment: values of its secrets are replaced. */
  constructor(env: Readonly<Record<string, string>>) {
    this.#secrets = secretsIn(env)
    this.#longest = Math.max(0, ...this.#secrets.map((secret) => Buffer.byteLength(secret)))
    // Room for a secret that begins just before the cap: it must be seen whole to be recognised.
    this.#keepBytes = STDERR_CAP + this.#longest
  }

  push(chunk: Uint8Array): void {
    const room = this.#keepBytes - this.#bytes
    if (room > 0) this.#chunks.push(chunk.subarray(0, room))
    this.#bytes += chunk.length
  }

  mark(): StderrMark {
    const text = redact(Buffer.concat(this.#chunks).toString('utf8'), this.#secrets)
    // Where the stream goes on, the end of what was kept may be the first half of a secret.
    const safe = this.#bytes > this.#keepBytes ? text.slice(0, text.length - this.#longest) : text
    return { kind: 'stderr', text: cut(safe), truncated: this.#bytes > STDERR_CAP || Buffer.byteLength(text) > STDERR_CAP }
  }
}

/** To the cap in bytes, without half a character at the end. */
function cut(text: string): string {
  const bytes = Buffer.from(text)
  if (bytes.length <= STDERR_CAP) return text
  return bytes.subarray(0, STDERR_CAP).toString('utf8').replace(/\uFFFD+$/, '')
}
