/** What an agent may have under way: counted by what it sends and by the acks that have reached it. */
import { decodeEventFrame } from '../../shared/event-frames.ts'
import type { AckEntry } from '../../shared/frames.ts'
import { CONNECTION_WINDOW, RUN_WINDOW } from '../../shared/limits.ts'

type Sent = { seq: number; part: number; bytes: number }

export class Credit {
  readonly #sent = new Map<string, Sent[]>()
  readonly #violate: (invariant: string, what: string) => void

  constructor(violate: (invariant: string, what: string) => void) {
    this.#violate = violate
  }

  sent(data: string | Uint8Array): void {
    const at = typeof data === 'string' ? markAt(data) : frameAt(data)
    if (!at) return
    const under = this.#sent.get(at.run) ?? []
    this.#sent.set(at.run, under)
    if (under.length > 0) {
      if (sum(under) >= RUN_WINDOW) this.#violate('credit', `${at.run}: ${sum(under)} bytes are under way, and it sends more`)
      const all = sum([...this.#sent.values()].flat())
      if (all >= CONNECTION_WINDOW) this.#violate('credit', `${all} bytes are under way on the connection, and it sends more`)
    }
    under.push({ seq: at.seq, part: at.part, bytes: data.length })
  }

  acked(entries: readonly AckEntry[]): void {
    for (const [run, , seq, part] of entries) {
      const under = this.#sent.get(run) ?? []
      this.#sent.set(run, under.filter((sent) => sent.seq > seq || (sent.seq === seq && sent.part > part)))
    }
  }

  dropped(run: string): void {
    this.#sent.delete(run)
  }
}

const sum = (sent: readonly Sent[]) => sent.reduce((all, { bytes }) => all + bytes, 0)

function markAt(data: string): { run: string; seq: number; part: number } | undefined {
  if (!data.startsWith('{"t":"mark"')) return undefined
  const { run, seq } = JSON.parse(data) as { run: string; seq: number }
  return { run, seq, part: 0 }
}

function frameAt(data: Uint8Array): { run: string; seq: number; part: number } | undefined {
  const frame = decodeEventFrame(data)
  if (typeof frame === 'string') return undefined
  const { header } = frame
  if (header.t === 'ev') return { run: header.run, seq: header.first + header.n - 1, part: 0 }
  const { run, seq, i, of } = header
  return i + 1 === of ? { run, seq, part: 0 } : { run, seq: seq - 1, part: i + 1 }
}
