/**
 * Lines of the CLI as server-sent events, written as fast as one can in JavaScript: one buffer for a piece, one copy of
 * each line, and a head whose digits count up in place.
 */
const NEWLINE = 0x0a
const NINE = 0x39
const HEAD_ROOM = 48

export class Framer {
  #id = 0
  #head = head(1)

  /** `bytes` are whole lines, each ended by `\n`. */
  lines(bytes: Buffer): Buffer {
    const ends: number[] = []
    for (let at = bytes.indexOf(NEWLINE); at >= 0; at = bytes.indexOf(NEWLINE, at + 1)) ends.push(at)
    const out = Buffer.allocUnsafe(bytes.length + ends.length * HEAD_ROOM)
    let to = 0
    let from = 0
    for (const end of ends) {
      out.set(this.#head, to)
      to += this.#head.length
      to += bytes.copy(out, to, from, end + 1)
      out[to++] = NEWLINE
      from = end + 1
      this.#next()
    }
    return out.subarray(0, to)
  }

  done(status: 'succeeded' | 'cancelled'): string {
    return `id: ${this.#id + 1}\nevent: done\ndata: {"status":"${status}"}\n\n`
  }

  #next(): void {
    this.#id++
    // The digits end before the first line end.
    for (let at = this.#head.indexOf(NEWLINE) - 1; ; at--) {
      const digit = this.#head[at]!
      if (digit < 0x30 || digit > NINE) {
        this.#head = head(this.#id + 1)
        return
      }
      if (digit < NINE) {
        this.#head[at] = digit + 1
        return
      }
      this.#head[at] = 0x30
    }
  }
}

const head = (id: number): Buffer => Buffer.from(`id: ${id}\nevent: message\ndata: `)
