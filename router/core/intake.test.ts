import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { EventHeader } from '../../shared/event-frames.ts'
import { Intake, isBefore, type LogRow, type Position } from './intake.ts'

const run = `run_${'1'.repeat(32)}`
const bytes = new Uint8Array([0x7b, 0x7d, 0x0a])
const ev = (first: number, n: number): EventHeader => ({ t: 'ev', run, fence: 1, first, n })
const part = (seq: number, i: number, of: number): EventHeader => ({ t: 'part', run, fence: 1, seq, i, of })
const empty = () => new Intake({ seq: 0, part: 0 })

/** What a runner sends: lines in batches, marks, and long lines in parts; each with where the log stands after it. */
type Sent = { kind: 'frame'; header: EventHeader; upTo: Position; parts: number } | { kind: 'mark'; seq: number; upTo: Position; parts: number }
const sequence = fc
  .array(fc.oneof(fc.integer({ min: 1, max: 4 }).map((n) => ({ ev: n })), fc.constant({ mark: 1 }), fc.integer({ min: 2, max: 5 }).map((of) => ({ part: of }))), {
    minLength: 1,
    maxLength: 12,
  })
  .map((items) => {
    const sent: Sent[] = []
    let seq = 0
    for (const item of items) {
      if ('ev' in item) {
        sent.push({ kind: 'frame', header: ev(seq + 1, item.ev), upTo: { seq: seq + item.ev, part: 0 }, parts: 1 })
        seq += item.ev
      } else if ('mark' in item) {
        sent.push({ kind: 'mark', seq: seq + 1, upTo: { seq: seq + 1, part: 0 }, parts: 1 })
        seq++
      } else {
        for (let i = 0; i < item.part; i++) {
          const last = i + 1 === item.part
          const upTo = last ? { seq: seq + 1, part: 0 } : { seq, part: i + 1 }
          sent.push({ kind: 'frame', header: part(seq + 1, i, item.part), upTo, parts: item.part })
        }
        seq++
      }
    }
    return sent
  })

const take = (intake: Intake, sent: Sent) => (sent.kind === 'mark' ? intake.mark(sent.seq, bytes) : intake.frame(sent.header, bytes))

describe('the intake of a run', () => {
  it('takes what a runner sends once, and knows all of it as seen afterwards', () => {
    fc.assert(
      fc.property(sequence, (sent) => {
        const intake = empty()
        for (const [at, message] of sent.entries()) {
          expect(take(intake, message)).toMatchObject({ ok: true, row: { bytes } })
          expect(intake.taken).toEqual(message.upTo)
          for (const earlier of sent.slice(0, at + 1)) expect(take(intake, earlier)).toEqual({ ok: false, why: 'seen' })
        }
      }),
    )
  })

  it('takes nothing that skips a message', () => {
    fc.assert(
      fc.property(sequence, fc.nat(), (sent, at) => {
        const from = at % sent.length
        const intake = empty()
        for (const message of sent.slice(0, from)) take(intake, message)
        const before = intake.taken
        for (const message of sent.slice(from + 1)) expect(take(intake, message)).toEqual({ ok: false, why: 'not_contiguous' })
        expect(intake.taken).toEqual(before)
      }),
    )
  })

  it('goes on from what is durable after a rewind, wherever the log stopped', () => {
    fc.assert(
      fc.property(sequence, fc.nat(), fc.nat(), (sent, a, b) => {
        const taken = a % (sent.length + 1)
        const durable = taken === 0 ? 0 : b % (taken + 1)
        const intake = empty()
        for (const message of sent.slice(0, taken)) take(intake, message)
        const last = sent[durable - 1]
        if (last) intake.committed(last.upTo, last.parts)
        intake.rewind()
        expect(intake.taken).toEqual(last?.upTo ?? { seq: 0, part: 0 })
        for (const message of sent.slice(durable)) expect(take(intake, message)).toMatchObject({ ok: true })
      }),
    )
  })

  it('goes on from what the database has after a restart', () => {
    fc.assert(
      fc.property(sequence, fc.nat(), (sent, at) => {
        const last = sent[at % sent.length]!
        const intake = new Intake(last.upTo, last.upTo.part === 0 ? 0 : last.parts)
        for (const message of sent.slice((at % sent.length) + 1)) expect(take(intake, message)).toMatchObject({ ok: true })
      }),
    )
  })

  it('gives rows that say what they hold', () => {
    const intake = empty()
    const rows = [intake.frame(ev(1, 3), bytes), intake.mark(4, bytes), intake.frame(part(5, 0, 2), bytes), intake.frame(part(5, 1, 2), bytes)]
    expect(rows.map((taken) => (taken.ok ? taken.row : undefined))).toEqual<LogRow[]>([
      { first: 1, part: 0, parts: 1, count: 3, kind: 'ev', bytes },
      { first: 4, part: 0, parts: 1, count: 1, kind: 'mark', bytes },
      { first: 5, part: 0, parts: 2, count: 1, kind: 'part', bytes },
      { first: 5, part: 1, parts: 2, count: 1, kind: 'part', bytes },
    ])
  })

  it.each<[string, (intake: Intake) => unknown]>([
    ['lines across the end of the log', (intake) => intake.frame(ev(2, 3), bytes)],
    ['lines while a line is incomplete', (intake) => (intake.frame(part(4, 0, 3), bytes), intake.frame(ev(4, 1), bytes))],
    ['a mark while a line is incomplete', (intake) => (intake.frame(part(4, 0, 3), bytes), intake.mark(4, bytes))],
    ['a part that came too early', (intake) => intake.frame(part(4, 1, 3), bytes)],
    ['a part of another number of parts', (intake) => (intake.frame(part(4, 0, 3), bytes), intake.frame(part(4, 1, 4), bytes))],
  ])('does not take %s', (_what, send) => {
    const intake = empty()
    intake.frame(ev(1, 3), bytes)
    expect(send(intake)).toEqual({ ok: false, why: 'not_contiguous' })
  })

  it('never moves what is durable backwards', () => {
    const intake = empty()
    intake.committed({ seq: 3, part: 1 }, 2)
    intake.committed({ seq: 3, part: 0 }, 1)
    intake.committed({ seq: 2, part: 9 }, 12)
    expect(intake.durable).toEqual({ seq: 3, part: 1 })
  })
})

describe('positions', () => {
  it('are ordered by seq, then by part', () => {
    const position = fc.record({ seq: fc.nat(5), part: fc.nat(5) })
    fc.assert(
      fc.property(position, position, (a, b) => {
        expect(isBefore(a, b)).toBe(a.seq * 10 + a.part < b.seq * 10 + b.part)
      }),
    )
  })
})
