/**
 * One connection as two queues of frames that are delivered when a schedule says so. A cut loses what was under way, an
 * end that is not told of it goes on speaking into the void, and what the router still gets of an old connection is late.
 */
import type { Inbox } from '../../router/hub/inbox.ts'

export type Up = string | Uint8Array<ArrayBuffer> | { close: number }
export type Down = string | { close: number }

export class Wire {
  readonly up: Up[] = []
  readonly down: Down[] = []
  inbox: Inbox | undefined
  /** Which router it leads to: another one hears nothing of it. */
  readonly router: object
  #cut = false

  constructor(router: object) {
    this.router = router
  }

  toRouter(frame: Up): void {
    if (!this.#cut) this.up.push(frame)
  }

  toRunner(frame: Down): void {
    if (!this.#cut) this.down.push(frame)
  }

  get waitingBytes(): number {
    let bytes = 0
    for (const frame of this.up) bytes += typeof frame === 'object' && 'close' in frame ? 0 : frame.length
    return bytes
  }

  /** Of what is under way, the first `keepUp` and `keepDown` still arrive. */
  cut(keepUp: number, keepDown: number, told: { router: boolean; runner: boolean }): void {
    if (this.#cut) return
    this.#cut = true
    this.up.splice(keepUp)
    this.down.splice(keepDown)
    if (told.router) this.up.push({ close: 1006 })
    if (told.runner) this.down.push({ close: 1006 })
  }
}
