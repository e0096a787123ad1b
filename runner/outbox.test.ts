import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as fc from 'fast-check'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { decodeEventFrame, PART_BYTES } from '../shared/event-frames.ts'
import { decodeToRouter } from '../shared/frames.ts'
import { COALESCE_BYTES, COALESCE_MS, CONNECTION_WINDOW, MAX_MESSAGE, RUN_WINDOW } from '../shared/limits.ts'
import type { Mark } from '../shared/marks.ts'
import { Outbox, type Outgoing } from './outbox.ts'
import { Spool } from './spool.ts'

const session = '0190a8c4-7c1e-7000-8000-000000000001'
const run = `run_${'a'.repeat(32)}`
const exit: Mark = { kind: 'exit', code: 0, signal: null, reason: 'completed', duration_ms: 1 }

let dir = ''
let spool: Spool
let outbox: Outbox
let count = 0
const renew = () => {
  spool?.remove()
  spool = Spool.create(join(dir, `${++count}.spool`), { run, fence: 2, tenant: 'default', session, marker: session })
  outbox = new Outbox(spool)
}
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'runyard-outbox-'))
})
beforeEach(renew)
afterAll(() => rmSync(dir, { recursive: true, force: true }))

type Sent = { seq: number; n: number; part: number; of: number; mark?: Mark; bytes: number; body: Uint8Array }

/** What the router would read: lines, a part, or a mark. */
function decode({ data, bytes }: Outgoing): Sent {
  if (typeof data === 'string') {
    const decoded = decodeToRouter(data)
    if (!decoded.ok || decoded.message.t !== 'mark') throw new Error(`not a mark: ${data}`)
    return { seq: decoded.message.seq, n: 1, part: 0, of: 1, mark: decoded.message.mark, bytes, body: new Uint8Array() }
  }
  const frame = decodeEventFrame(data)
  if (typeof frame === 'string') throw new Error(frame)
  const { header, body } = frame
  expect(bytes).toBe(data.length)
  expect(bytes).toBeLessThanOrEqual(MAX_MESSAGE)
  expect(header).toMatchObject({ run, fence: 2 })
  if (header.t === 'ev') return { seq: header.first, n: header.n, part: 0, of: 1, bytes, body }
  return { seq: header.seq, n: 1, part: header.i, of: header.of, bytes, body }
}

function send(now = 0, credit = CONNECTION_WINDOW): Sent | string | number {
  const next = outbox.next(now, () => credit)
  if (next.do === 'send') return decode(next.message)
  return next.do === 'later' ? next.inMs : next.do
}
const sent = (now = 0, credit = CONNECTION_WINDOW): Sent => {
  const next = send(now, credit)
  if (typeof next !== 'object') throw new Error(`nothing was sent but ${next}`)
  return next
}
const same = (a: Sent, b: Sent) => a.seq === b.seq && a.part === b.part && a.of === b.of && Buffer.from(a.body).equals(b.body)
const write = (bytes: Uint8Array) => {
  spool.line(bytes)
  spool.flush()
}
const line = (bytes: number) => write(Buffer.alloc(bytes, 0x61))
/** Acknowledges a message as the router would once it is durable. */
const ack = ({ seq, n, part, of }: Sent, window = RUN_WINDOW) => (part + 1 < of ? outbox.ack(seq - 1, part + 1, window) : outbox.ack(seq + n - 1, 0, window))

describe('what is sent of a run', () => {
  it('is at once what is there, if nothing is under way', () => {
    line(10)
    line(10)
    expect(sent()).toMatchObject({ seq: 1, n: 2 })
    expect(send()).toBe('nothing')
  })

  it('waits a moment behind an unacknowledged message, so that small lines travel together', () => {
    line(10)
    sent()
    line(10)
    expect(send(100)).toBe(COALESCE_MS)
    line(10)
    expect(send(100 + COALESCE_MS - 1)).toBe(1)
    expect(sent(100 + COALESCE_MS)).toMatchObject({ seq: 2, n: 2 })
  })

  it('does not wait behind the mark with which a run begins', () => {
    spool.mark({ kind: 'stderr', text: 'oh', truncated: false })
    sent()
    line(10)
    expect(sent()).toMatchObject({ seq: 2, n: 1 })
    line(10)
    expect(send()).toBe(COALESCE_MS)
  })

  it('does not keep a mark waiting, since nothing can travel with it', () => {
    line(10)
    sent()
    spool.mark(exit)
    expect(sent()).toMatchObject({ seq: 2, mark: exit })
  })

  it('does not wait when enough has come together', () => {
    line(10)
    sent()
    line(COALESCE_BYTES)
    expect(sent()).toMatchObject({ seq: 2, n: 1 })
  })

  it('does not wait once the ack is there', () => {
    line(10)
    const first = sent()
    line(10)
    ack(first)
    expect(sent()).toMatchObject({ seq: 2 })
  })

  it('is held back at the window of the run until something is acknowledged', () => {
    for (let i = 0; i < 12; i++) line(COALESCE_BYTES - 200)
    const under: Sent[] = []
    for (let next = send(); typeof next === 'object'; next = send()) under.push(next)
    expect(outbox.unacked).toBeGreaterThanOrEqual(RUN_WINDOW)
    expect(outbox.unacked).toBeLessThan(RUN_WINDOW + MAX_MESSAGE)
    expect(send(1_000)).toBe('nothing')
    ack(under[0]!)
    expect(sent(1_000)).toMatchObject({ seq: under.at(-1)!.seq + 1 })
  })

  it('goes by the window that the router gives', () => {
    for (let i = 0; i < 3; i++) line(COALESCE_BYTES)
    ack(sent(), 100)
    sent()
    expect(send(1_000)).toBe('nothing')
  })

  it('is held back by the credit of the connection, but for one message', () => {
    line(COALESCE_BYTES)
    line(COALESCE_BYTES)
    expect(sent(0, -5)).toMatchObject({ seq: 1 })
    expect(send(1_000, 0)).toBe('nothing')
    expect(sent(1_000, 1)).toMatchObject({ seq: 2 })
  })

  it('keeps a mark apart from the lines around it', () => {
    line(5)
    spool.mark({ kind: 'stderr', text: 'oh', truncated: false })
    line(5)
    spool.mark(exit)
    const all = [0, 1, 2, 3].map(() => {
      const message = sent()
      ack(message)
      return message
    })
    expect(all.map((m) => [m.seq, m.n, m.mark?.kind])).toEqual([[1, 1, undefined], [2, 1, 'stderr'], [3, 1, undefined], [4, 1, 'exit']])
  })

  it('is drained when the last event is acknowledged, and not before', () => {
    line(5)
    spool.mark(exit)
    expect(outbox.drained).toBe(false)
    ack(sent())
    expect(outbox.drained).toBe(false)
    ack(sent())
    expect([outbox.drained, outbox.unacked, outbox.acked]).toEqual([true, 0, 2])
  })

  it('does not count a late ack twice', () => {
    line(5)
    const first = sent()
    ack(first)
    ack(first)
    outbox.ack(0, 0, RUN_WINDOW)
    expect([outbox.unacked, outbox.acked]).toEqual([0, 1])
  })
})

describe('a line that is too long for a message', () => {
  const long = Buffer.from('€'.repeat(700_000))

  it('goes out in parts that fit, one acknowledged after the other, and never blocks itself', () => {
    write(long)
    const parts: Sent[] = []
    while (!outbox.drained) {
      const part = sent(parts.length * 1_000, -1)
      expect(part.bytes).toBeLessThanOrEqual(MAX_MESSAGE)
      parts.push(part)
      ack(part)
    }
    expect(parts.map((p) => p.part)).toEqual(parts.map((_, i) => i))
    expect(Buffer.concat(parts.map((p) => p.body)).equals(long)).toBe(true)
  })

  it('is still under way in the parts that are not acknowledged', () => {
    write(long)
    const first = sent()
    ack(first, 10 * MAX_MESSAGE)
    const second = sent()
    const third = sent()
    ack(second, 10 * MAX_MESSAGE)
    expect(outbox.unacked).toBe(third.bytes)
  })

  it('goes on with the part that the router does not have', () => {
    write(long)
    const parts = [0, 1, 2, 3, 4].map(() => {
      const part = sent()
      ack(part)
      return part
    })
    outbox.resume(0, 2)
    expect([outbox.unacked, outbox.acked]).toEqual([0, 0])
    const again = sent()
    expect(same(again, parts[2]!)).toBe(true)
    ack(again)
    outbox.resume(0, 3)
    expect(same(sent(), parts[3]!)).toBe(true)
  })

  it.each([PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 2 * PART_BYTES, 2 * PART_BYTES + 1])('of %i bytes fits its messages and comes back whole', (size) => {
    renew()
    const bytes = Buffer.alloc(size, 'xyz')
    write(bytes)
    const bodies: Uint8Array[] = []
    for (let at = 0; !outbox.drained; at++) {
      const message = sent()
      expect(message.bytes).toBeLessThanOrEqual(MAX_MESSAGE)
      bodies.push(message.of === 1 ? message.body.subarray(0, -1) : message.body)
      ack(message)
    }
    expect(Buffer.concat(bodies).equals(bytes)).toBe(true)
  })
})

describe('a new connection', () => {
  it('is sent everything after what the router has, and nothing before it', () => {
    for (let i = 0; i < 5; i++) line(10)
    expect(sent()).toMatchObject({ seq: 1, n: 5 })
    outbox.resume(2, 0)
    expect(outbox.unacked).toBe(0)
    expect(sent()).toMatchObject({ seq: 3, n: 3 })
  })

  it('owes nothing for what the old one had under way', () => {
    for (let i = 0; i < 3; i++) line(10)
    sent()
    outbox.resume(1, 0)
    ack(sent())
    expect(outbox.unacked).toBe(0)
  })

  it('may be asked for events again that an earlier router had acknowledged', () => {
    for (let i = 0; i < 5; i++) line(10)
    ack(sent())
    outbox.resume(1, 0)
    expect([outbox.acked, outbox.drained]).toEqual([1, false])
    expect(sent()).toMatchObject({ seq: 2, n: 4 })
  })
})

describe('any stream of lines', () => {
  it('arrives whole, in order and within the limits, however late its acks are', () => {
    const size = fc.oneof(fc.nat(200), fc.nat(COALESCE_BYTES), fc.constantFrom(PART_BYTES, PART_BYTES + 7, RUN_WINDOW))
    fc.assert(
      fc.property(fc.array(size, { minLength: 1, maxLength: 10 }), fc.array(fc.nat(2)), fc.array(fc.boolean()), (sizes, lateness, flushes) => {
        renew()
        const lines = sizes.map((bytes, i) => Buffer.alloc(bytes, 0x61 + i))
        for (const [i, bytes] of lines.entries()) {
          spool.line(bytes)
          if (flushes[i % (flushes.length || 1)]) spool.flush()
        }
        spool.flush()
        const arrived: Uint8Array[] = []
        const waiting: Sent[] = []
        for (let step = 0; !outbox.drained; step++) {
          const next = send(step * COALESCE_MS)
          if (typeof next === 'object') {
            arrived.push(next.body, ...(next.of === next.part + 1 && next.of > 1 ? [Buffer.from('\n')] : []))
            waiting.push(next)
          }
          // Nothing to send and nothing to wait for would be a deadlock.
          expect(typeof next !== 'string' || waiting.length > 0).toBe(true)
          if (waiting.length > (lateness[step % (lateness.length || 1)] ?? 0)) ack(waiting.shift()!)
          else if (typeof next === 'string') ack(waiting.shift()!)
        }
        expect(Buffer.concat(arrived).equals(Buffer.concat(lines.flatMap((bytes) => [bytes, Buffer.from('\n')])))).toBe(true)
        expect(outbox.unacked).toBe(0)
      }),
      { numRuns: 60 },
    )
  })
})
