/**
 * One run under random schedules: the runner's real spool and outbox, the router's real core, and between them a wire
 * that loses its tail when it is cut and a log that may fail. Whatever happens, the log ends up as what was printed:
 * every byte, in order, once (I1 to I4), one ending (I5), and nothing acknowledged that is not in it (I8).
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { isBefore, type LogRow, type Position } from '../router/core/intake.ts'
import { Outbox, type Outgoing } from '../runner/outbox.ts'
import { Spool } from '../runner/spool.ts'
import { decodeEventFrame } from '../shared/event-frames.ts'
import { CLOSE, decodeToRouter } from '../shared/frames.ts'
import { COALESCE_MS, CONNECTION_WINDOW } from '../shared/limits.ts'
import type { Mark } from '../shared/marks.ts'
import { CoreRig, EXIT, held, RUN, SESSION, STARTED } from './kit/core.ts'

type Step =
  | { do: 'print'; bytes: number }
  | { do: 'exit' | 'send' | 'ack' | 'commit' | 'fail' | 'connect' | 'restart' }
  /** The runner loses its connection; the router still gets the first `keep` messages, and hears of the cut, or not. */
  | { do: 'cut'; keep: number; noticed: boolean }
  /** The next message of one of the connections that there were, the ones before the last included. */
  | { do: 'deliver'; wire: number }

function must(holds: boolean, otherwise: string): asserts holds {
  if (!holds) throw new Error(otherwise)
}

type Wire = { conn: number; messages: Outgoing[] }

class Model {
  readonly spool: Spool
  readonly log: LogRow[] = []
  readonly printed: Buffer[] = []
  endings = 0
  #exited = false
  #outbox: Outbox
  #rig = new CoreRig()
  #wires: Wire[] = []
  #conn = 0
  #up = false

  constructor(path: string) {
    this.spool = Spool.create(path, { run: RUN, fence: 1, tenant: 'default', session: SESSION, marker: SESSION })
    this.#outbox = new Outbox(this.spool)
    this.#rig.connect(++this.#conn)
    this.#rig.lease()
    this.#open()
    this.mark(STARTED)
  }

  step(step: Step): void {
    switch (step.do) {
      case 'print':
        if (this.#exited) break
        this.printed.push(Buffer.alloc(step.bytes, `${this.printed.length} `))
        this.spool.line(this.printed.at(-1)!)
        break
      case 'exit':
        if (!this.#exited) this.mark(EXIT)
        this.#exited = true
        break
      case 'send':
        this.#send()
        break
      case 'deliver':
        this.#deliver(step.wire)
        break
      case 'commit':
        this.#commit(1)
        break
      case 'fail':
        this.#rig.failStorage()
        break
      case 'ack':
        this.#ack()
        break
      case 'cut':
        if (!this.#up) break
        this.#up = false
        this.#wires.at(-1)!.messages.splice(step.keep)
        if (step.noticed) this.#rig.cut(this.#conn)
        break
      case 'connect':
        if (!this.#up) this.#connect()
        break
      case 'restart':
        this.#restart()
        break
    }
    const codes = this.#rig.closed.splice(0).map(({ code }) => code)
    if (codes.includes(CLOSE.overload)) this.#up = false
    must(codes.every((code) => code === CLOSE.overload || code === CLOSE.superseded), `the router closed with ${codes.join()}`)
    must(this.#outbox.unacked >= 0, 'more was acknowledged than sent')
  }

  mark(mark: Mark): void {
    this.printed.push(Buffer.from(JSON.stringify(mark)))
    this.spool.mark(mark)
  }

  /** No more trouble: whatever is left gets through. */
  finish(): void {
    this.step({ do: 'exit' })
    for (let round = 0; this.endings === 0; round++) {
      must(round < 200, 'the run never ends')
      for (const what of ['connect', 'send', 'commit', 'ack'] as const) {
        this.step({ do: what })
        while (this.#wires.some((wire) => wire.messages.length > 0)) this.#deliver(0)
      }
    }
  }

  #open(): void {
    this.#up = true
    this.#wires.push({ conn: this.#conn, messages: [] })
    this.#rig.acks.length = 0
  }

  #connect(): void {
    this.#rig.do(this.#rig.core.opened(++this.#conn, this.#rig.now))
    this.#open()
    // The host answers a hello when nothing is pending any more; what it acknowledges meanwhile is on the new wire.
    this.#commit()
    this.#ack()
    this.#rig.greet(this.#conn, [held(this.#exited ? 'exited' : 'running', this.spool.last)])
    const [resume] = this.#rig.last('welcome').resume
    must(resume?.do === (this.endings > 0 ? 'revoke' : 'continue'), `the runner is told to ${resume?.do}`)
    this.#outbox.resume(resume.ack, resume.part)
  }

  #send(): void {
    this.#rig.now += COALESCE_MS
    const next = this.#up ? this.#outbox.next(this.#rig.now, () => CONNECTION_WINDOW - this.#outbox.unacked) : undefined
    if (next?.do === 'send') this.#wires.at(-1)!.messages.push(next.message)
  }

  #deliver(which: number): void {
    const under = this.#wires.filter((wire) => wire.messages.length > 0)
    if (under.length === 0) return
    const { conn, messages } = under[which % under.length]!
    const message = messages.shift()!
    if (typeof message.data !== 'string') {
      const frame = decodeEventFrame(message.data)
      must(typeof frame !== 'string', 'an event frame is malformed')
      this.#rig.do(this.#rig.core.events(conn, frame, this.#rig.now))
      return
    }
    const decoded = decodeToRouter(message.data)
    must(decoded.ok && decoded.message.t === 'mark', message.data)
    this.#rig.receive(conn, decoded.message)
  }

  #commit(n?: number): void {
    const before = this.#rig.kept.length
    const acks = this.#rig.acks.length
    this.#rig.commit(n)
    for (const append of this.#rig.kept.slice(before)) {
      this.log.push(...append.rows)
      if (append.ending) this.endings++
    }
    for (const [, , seq, part] of this.#rig.acks.slice(acks)) must(!isBefore(this.#end(), { seq, part }), `${seq}.${part} was acknowledged too early`)
  }

  #ack(): void {
    if (!this.#up) return
    for (const [, , seq, part, window] of this.#rig.acks.splice(0)) {
      this.#outbox.ack(seq, part, window)
    }
    must(this.#outbox.acked <= this.#end().seq, 'the runner would drop what is not in the log')
  }

  /** The router's process ends, with it what was not in the log. */
  #restart(): void {
    const { seq, part } = this.#end()
    this.#up = false
    this.#rig = new CoreRig()
    if (this.endings > 0) return
    const parts = part > 0 ? this.log.at(-1)!.parts : 0
    this.#rig.core.restore([{ run: RUN, fence: 1, state: 'running', durable: { seq, part }, parts, cancelRequested: false, timeoutMs: 600_000 }], 0)
  }

  #end(): Position {
    const last = this.log.at(-1)
    if (!last) return { seq: 0, part: 0 }
    return last.part + 1 < last.parts ? { seq: last.first - 1, part: last.part + 1 } : { seq: last.first + last.count - 1, part: 0 }
  }
}

/** The log as a subscriber reads it; throws where a seq is missing, doubled or out of order. */
function events(log: readonly LogRow[]): Buffer[] {
  const all: Buffer[] = []
  let parts: Uint8Array[] = []
  for (const row of log) {
    must(row.first === all.length + 1 && row.part === parts.length, `${row.first}.${row.part} follows ${all.length}.${parts.length}`)
    if (row.kind === 'ev') {
      let at = 0
      for (let n = 0; n < row.count; n++) {
        const end = row.bytes.indexOf(0x0a, at)
        all.push(Buffer.from(row.bytes.subarray(at, end)))
        at = end + 1
      }
      must(at === row.bytes.length, `${row.first} holds more than ${row.count} lines`)
    } else {
      parts.push(row.bytes)
      if (parts.length < row.parts) continue
      all.push(Buffer.concat(parts))
      parts = []
    }
  }
  return all
}

const size = fc.oneof(
  { weight: 30, arbitrary: fc.nat(300) },
  { weight: 6, arbitrary: fc.integer({ min: 1_000, max: 70_000 }) },
  // Two parts that fit the window together, and more of them.
  { weight: 2, arbitrary: fc.constantFrom(523_264, 700_000, 1_200_000) },
)
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 15, arbitrary: size.map((bytes): Step => ({ do: 'print', bytes })) },
  { weight: 21, arbitrary: fc.constant<Step>({ do: 'send' }) },
  { weight: 21, arbitrary: fc.nat(9).map((wire): Step => ({ do: 'deliver', wire })) },
  { weight: 15, arbitrary: fc.constant<Step>({ do: 'commit' }) },
  { weight: 12, arbitrary: fc.constant<Step>({ do: 'ack' }) },
  { weight: 9, arbitrary: fc.constant<Step>({ do: 'connect' }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('cut' as const), keep: fc.nat(3), noticed: fc.boolean() }) },
  { weight: 1, arbitrary: fc.constant<Step>({ do: 'exit' }) },
  { weight: 3, arbitrary: fc.constant<Step>({ do: 'fail' }) },
  { weight: 3, arbitrary: fc.constant<Step>({ do: 'restart' }) },
)

describe('one run, whatever happens on its way', () => {
  let dir = ''
  let count = 0
  beforeAll(() => {
    dir = mkdtempSync(join(tmpdir(), 'runyard-model-'))
  })
  afterAll(() => rmSync(dir, { recursive: true, force: true }))

  it('arrives whole, in order and once, and ends once', () => {
    fc.assert(
      fc.property(fc.array(step, { minLength: 20, maxLength: 120, size: 'max' }), (steps) => {
        const model = new Model(join(dir, `${++count}.spool`))
        try {
          for (const next of steps) model.step(next)
          model.finish()
          expect(model.endings).toBe(1)
          const arrived = events(model.log)
          expect(arrived.length).toBe(model.printed.length)
          expect(arrived.every((bytes, i) => bytes.equals(model.printed[i]!))).toBe(true)
        } finally {
          model.spool.remove()
        }
      }),
      { numRuns: 400 },
    )
  })
})
