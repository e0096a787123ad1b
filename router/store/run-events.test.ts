import { eq } from 'drizzle-orm'
import * as fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { runs } from '../../drizzle/schema.ts'
import { appendOf, lines, mark, openLog, part, type LogRig } from '../../test/kit/log.ts'
import type { LogRow } from '../core/intake.ts'
import type { Append } from '../core/runner-core.ts'
import type { Ending } from '../core/run-state.ts'
import { appendStatements, logEnd, readChunks, readEvent } from './run-events.ts'

const NOW = 1_700_000_000_000
const usage = { input_tokens: 3, output_tokens: 4, cache_creation_input_tokens: 0, cache_read_input_tokens: 0 }
const exit = { kind: 'exit', code: 0, signal: null, reason: 'completed', duration_ms: 9 }
const succeeded: Ending = {
  state: 'succeeded',
  error: undefined,
  durationMs: 9,
  result: { seq: 2, is_error: false, cost_usd: 0.25, usage, num_turns: 3, model: 'haiku' },
  costUsd: 0.25,
  provider: undefined,
}
const lost: Ending = { state: 'lost', error: { code: 'lost', message: 'gone' }, result: undefined, durationMs: 0, costUsd: undefined, provider: undefined }

let log: LogRig
beforeAll(async () => {
  log = await openLog()
})
afterAll(() => log.close())

/** Whether the append took effect. */
async function append(one: Append): Promise<boolean> {
  const results = await log.database.batch(appendStatements(log.database.db, one, NOW))
  return (results.at(-1) as unknown[]).length > 0
}

/** Every event after `afterSeq` as a subscriber gathers them, page by page. */
async function readAll(run: string, afterSeq: number, maxBytes: number): Promise<{ events: [number, string][]; pages: number[] }> {
  const events: [number, string][] = []
  const pages: number[] = []
  for (let after = afterSeq; ; ) {
    const chunks = await readChunks(log.database.db, run, after, maxBytes)
    const last = chunks.at(-1)
    if (!last) return { events, pages }
    pages.push(chunks.slice(0, -1).reduce((sum, chunk) => sum + chunk.bytes.length, 0))
    for (const chunk of chunks) {
      const text = Buffer.from(chunk.bytes).toString()
      const texts = chunk.kind === 'mark' ? [text] : text.split('\n').slice(0, -1)
      if (texts.length !== chunk.count) throw new Error(`a chunk of ${chunk.count} holds ${texts.length}`)
      events.push(...texts.map((one, i): [number, string] => [chunk.first + i, one]))
    }
    after = last.first + last.count - 1
  }
}

describe('an append', () => {
  it('keeps its rows, and moves the run with them', async () => {
    const run = await log.run()
    expect(await append(appendOf(run, [mark(1, { kind: 'started' })], { started: { provider: 'demo' } }))).toBe(true)
    expect(await append(appendOf(run, [], { running: true }))).toBe(true)
    expect(await log.row(run)).toMatchObject({ state: 'running', provider: 'demo', endedAt: null })
    expect(await append(appendOf(run, [lines(2, ['{"type":"result"}'])]))).toBe(true)
    expect(await append(appendOf(run, [mark(3, exit)], { ending: succeeded }))).toBe(true)
    expect(await log.row(run)).toMatchObject({
      state: 'succeeded',
      endedAt: NOW,
      lastSeq: 3,
      resultSeq: 2,
      isError: false,
      errorCode: null,
      costUsd: 0.25,
      usage,
      numTurns: 3,
      durationMs: 9,
      model: 'haiku',
    })
    expect(await log.rows(run)).toEqual([[1, 0], [2, 0], [3, 0]])
  })

  it.each([
    ['what it cost', { costUsd: 0.25 }, { costUsd: 0.25, costEstimated: false }],
    ['that it cost at least as much as it had, where that is less', { costUsd: 0.25, costIsLeast: true }, { costUsd: 0.5, costEstimated: true }],
    ['that it cost more than it had', { costUsd: 0.75, costIsLeast: true }, { costUsd: 0.75, costEstimated: true }],
    ['nothing of its cost', { costUsd: undefined }, { costUsd: 0.5, costEstimated: null }],
    ['who answered last', { provider: 'other' }, { provider: 'other' }],
    ['nothing of who answered', { provider: undefined }, { provider: 'local', model: 'opus' }],
  ])('ends a run and says %s', async (_what, says, expected) => {
    const run = await log.run()
    await log.database.db.update(runs).set({ costUsd: 0.5, provider: 'local', model: 'opus' }).where(eq(runs.id, run))
    expect(await append(appendOf(run, [mark(1, exit)], { ending: { ...lost, ...says } }))).toBe(true)
    expect(await log.row(run)).toMatchObject(expected)
  })

  it.each([
    ['of an older fence', 2],
    ['of a fence that was never given', 9],
  ])('%s changes nothing', async (_what, fence) => {
    const run = await log.run(3)
    const before = await log.row(run)
    for (const more of [{}, { started: { provider: 'local' } }, { running: true as const }, { ending: succeeded }, { ending: lost, loss: true as const }]) {
      expect(await append(appendOf(run, [lines(1, ['{}'])], { fence, ...more }))).toBe(false)
    }
    expect(await log.row(run)).toEqual(before)
    expect(await log.rows(run)).toEqual([])
  })

  it('behind the ending changes nothing', async () => {
    const run = await log.run()
    await append(appendOf(run, [mark(1, exit)], { ending: succeeded }))
    const before = await log.row(run)
    expect(await append(appendOf(run, [lines(2, ['{}'])]))).toBe(false)
    expect(await append(appendOf(run, [mark(2, exit)], { ending: lost, loss: true }))).toBe(false)
    expect(await append(appendOf(run, [], { running: true }))).toBe(false)
    expect(await log.row(run)).toEqual(before)
    expect(await log.rows(run)).toEqual([[1, 0]])
  })

  it('to a run that does not exist is refused', async () => {
    expect(await append(appendOf(`run_${'f'.repeat(32)}`, [lines(1, ['{}'])]))).toBe(false)
  })

  it('is all or nothing: a row that cannot be kept keeps the run from ending', async () => {
    const run = await log.run()
    await append(appendOf(run, [lines(1, ['{}'])]))
    await expect(append(appendOf(run, [lines(2, ['{}']), lines(1, ['{}'])], { ending: succeeded }))).rejects.toThrow(/UNIQUE|constraint/i)
    expect(await log.row(run)).toMatchObject({ state: 'leased', endedAt: null })
    expect(await log.rows(run)).toEqual([[1, 0]])
  })

  it('keeps the bytes of a view, and not of the buffer behind it', async () => {
    const run = await log.run()
    const whole = Buffer.from('header\n{"a":"€"}\n')
    await append(appendOf(run, [{ ...lines(1, ['x']), bytes: whole.subarray(7) }]))
    expect((await readAll(run, 0, 100)).events).toEqual([[1, '{"a":"€"}']])
  })
})

describe('the loss of a run', () => {
  it('takes the place of a line that had only come in part, and raises the fence', async () => {
    const run = await log.run()
    await append(appendOf(run, [lines(1, ['{}']), part(2, 0, 3, 'aa'), part(2, 1, 3, 'bb')]))
    const gap = { kind: 'gap', reason: 'lost', from: 2, to: null }
    const rows = [mark(2, gap), mark(3, exit)]
    expect(await append(appendOf(run, rows, { ending: lost, loss: true }))).toBe(true)
    expect(await log.row(run)).toMatchObject({ state: 'lost', fence: 2, lastSeq: 3, isError: true, errorCode: 'lost', errorMessage: 'gone' })
    expect((await readAll(run, 0, 100)).events).toEqual([[1, '{}'], [2, JSON.stringify(gap)], [3, JSON.stringify(exit)]])
    expect(await append(appendOf(run, [part(2, 2, 3, 'cc')]))).toBe(false)
  })

  it('in the same commit shuts out what comes behind it', async () => {
    const run = await log.run()
    const statements = [
      ...appendStatements(log.database.db, appendOf(run, [mark(1, { kind: 'gap' }), mark(2, exit)], { ending: lost, loss: true }), NOW),
      ...appendStatements(log.database.db, appendOf(run, [lines(1, ['{}'])]), NOW),
    ]
    const results = await log.database.batch(statements)
    expect(results.at(-1)).toEqual([])
    expect(await log.rows(run)).toEqual([[1, 0], [2, 0]])
  })
})

/** Any log: batches of lines, marks, and lines in parts of which the last may be incomplete. */
const someRows = fc
  .array(
    fc.oneof(
      fc.record({ lines: fc.array(fc.string({ unit: fc.constantFrom('a', '€', '{', '"') }), { minLength: 1, maxLength: 4 }) }),
      fc.constant({ mark: true }),
      fc.record({ parts: fc.integer({ min: 2, max: 4 }) }),
    ),
    { minLength: 1, maxLength: 8 },
  )
  .chain((items) => fc.record({ items: fc.constant(items), missing: fc.nat(3) }))
  .map(({ items, missing }) => {
    const rows: LogRow[] = []
    const events: [number, string][] = []
    for (const item of items) {
      const seq = events.length + 1
      if ('lines' in item) {
        rows.push(lines(seq, item.lines))
        events.push(...item.lines.map((text, i): [number, string] => [seq + i, text]))
      } else if ('mark' in item) {
        rows.push(mark(seq, { seq }))
        events.push([seq, JSON.stringify({ seq })])
      } else {
        for (let i = 0; i < item.parts; i++) rows.push(part(seq, i, item.parts, `part ${i};`))
        events.push([seq, Array.from({ length: item.parts }, (_, i) => `part ${i};`).join('')])
      }
    }
    const last = items.at(-1)!
    const cut = 'parts' in last ? Math.min(missing, last.parts) : 0
    if (cut > 0) events.pop()
    return { rows: rows.slice(0, rows.length - cut), events }
  })

describe('reading the log', () => {
  it('gives every whole event after any event once and in order, in pages of any size', async () => {
    await fc.assert(
      fc.asyncProperty(someRows, fc.nat(20), fc.constantFrom(1, 10, 40, 65_536), async ({ rows, events }, after, maxBytes) => {
        const run = await log.run()
        if (rows.length > 0) await append(appendOf(run, rows))
        const read = await readAll(run, after, maxBytes)
        expect(read.events).toEqual(events.slice(after))
        // A page ends once it is full: without its last chunk it has room.
        for (const bytes of read.pages) expect(bytes).toBeLessThan(maxBytes)
      }),
      { numRuns: 80 },
    )
  })

  it('knows where the log ends after every append, also in the middle of a line', async () => {
    await fc.assert(
      fc.asyncProperty(someRows, async ({ rows }) => {
        const run = await log.run()
        for (const row of rows) {
          const one = appendOf(run, [row])
          await append(one)
          expect(await logEnd(log.database.db, run)).toEqual({ ...one.upTo, parts: one.upTo.part > 0 ? row.parts : 0 })
        }
      }),
      { numRuns: 25 },
    )
  })

  it('finds nothing in the log of a run that has none', async () => {
    expect(await readChunks(log.database.db, 'run_x', 0, 100)).toEqual([])
    expect(await logEnd(log.database.db, 'run_x')).toEqual({ seq: 0, part: 0, parts: 0 })
  })

  it('does not see the events of another run', async () => {
    const [one, other] = [await log.run(), await log.run()]
    await append(appendOf(one, [lines(1, ['{"of":"one"}'])]))
    await append(appendOf(other, [lines(1, ['{"of":"other"}', '{}'])]))
    expect((await readAll(one, 0, 100)).events).toEqual([[1, '{"of":"one"}']])
  })

  it('goes on over more chunks than fit one page', async () => {
    const run = await log.run()
    const rows = Array.from({ length: 150 }, (_, i) => lines(i + 1, [`{"n":${i}}`]))
    await append(appendOf(run, rows))
    const { events, pages } = await readAll(run, 0, 1e9)
    expect(events.map(([seq]) => seq)).toEqual(rows.map((row) => row.first))
    expect(pages).toHaveLength(3)
  })

  it('finds one event by its seq', async () => {
    const run = await log.run()
    await append(appendOf(run, [lines(1, ['{"a":1}', '{"b":2}', '{"c":3}']), mark(4, { kind: 'gap' }), part(5, 0, 2, '{"d"'), part(5, 1, 2, ':4}'), part(6, 0, 2, 'x')]))
    const texts = await Promise.all([1, 2, 3, 4, 5, 6, 7].map(async (seq) => Buffer.from((await readEvent(log.database.db, run, seq)) ?? []).toString()))
    expect(texts).toEqual(['{"a":1}\n', '{"b":2}\n', '{"c":3}\n', '{"kind":"gap"}', '{"d":4}\n', '', ''])
  })
})
