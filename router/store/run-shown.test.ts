import { afterAll, beforeAll, expect, it } from 'vitest'
import { eq } from 'drizzle-orm'
import { runEvents, runs } from '../../drizzle/schema.ts'
import { openLog, type LogRig } from '../../test/kit/log.ts'
import { runSummary } from '../engine/run-view.ts'
import { findShown } from './run-shown.ts'
import { findRun } from './runs.ts'

const encoder = new TextEncoder()
const decoder = new TextDecoder()

let log: LogRig
beforeAll(async () => {
  log = await openLog()
})
afterAll(() => log.close())

type EventRow = typeof runEvents.$inferInsert
/** A run of the tenant `default` with these rows in its log, and something in the log of another run. */
async function runWith(rows: readonly (Omit<EventRow, 'run' | 'bytes'> & { text: string })[], more: Partial<typeof runs.$inferInsert> = {}): Promise<string> {
  const { db } = log.database
  const [id, other] = [await log.run(), await log.run()]
  await db.update(runs).set({ state: 'succeeded', ...more }).where(eq(runs.id, id))
  await db.insert(runEvents).values({ run: other, first: 1, count: 9, kind: 'ev', bytes: encoder.encode('not mine\n'.repeat(9)) })
  for (const { text, ...row } of rows) await db.insert(runEvents).values({ ...row, run: id, bytes: encoder.encode(text) })
  return id
}

async function shownResult(run: string): Promise<string | undefined> {
  const shown = await findShown(log.database.db, { run, tenant: 'default' })
  return shown!.result && decoder.decode(shown!.result)
}

const CHUNKS = [
  { first: 1, count: 2, kind: 'ev', text: 'one\ntwo\n' },
  { first: 3, count: 3, kind: 'ev', text: 'three\nfour\nfive\n' },
  { first: 6, count: 1, kind: 'mark', text: 'exit\n' },
] as const

it('the row that is shown is what the whole row has', async () => {
  const run = await runWith(CHUNKS, { resultSeq: 4, usage: { input_tokens: 1, output_tokens: 2, cache_creation_input_tokens: 3, cache_read_input_tokens: 4 }, metadata: { a: 'b' }, isError: false, costUsd: 0.25, endedAt: 7 })
  const shown = await findShown(log.database.db, { run, tenant: 'default' })
  const whole = await findRun(log.database.db, 'default', run)
  expect(runSummary(shown!.row)).toEqual(runSummary(whole!))
  expect(shown!.row).toMatchObject({ tenant: 'default', pool: 'default', resultSeq: 4, prunedAt: null })
})

it.each([
  [3, 'three\n'],
  [4, 'four\n'],
  [5, 'five\n'],
  [2, 'two\n'],
])('a result at %i is found in its chunk', async (resultSeq, line) => {
  expect(await shownResult(await runWith(CHUNKS, { resultSeq }))).toBe(line)
})

it('a result that came in parts is put together', async () => {
  const parts = [0, 1].map((part) => ({ first: 3, part, parts: 2, count: 1, kind: 'part' as const, text: ['long', 'er'][part]! }))
  expect(await shownResult(await runWith([CHUNKS[0], ...parts], { resultSeq: 3 }))).toBe('longer\n')
})

it('there is none before a run has one, nor when its line is not there or no longer kept', async () => {
  expect(await shownResult(await runWith(CHUNKS))).toBeUndefined()
  expect(await shownResult(await runWith([], { resultSeq: 4 }))).toBeUndefined()
  expect(await shownResult(await runWith(CHUNKS, { resultSeq: 7 }))).toBeUndefined()
  expect(await shownResult(await runWith(CHUNKS, { resultSeq: 4, prunedAt: 9 }))).toBeUndefined()
})

it('a run of somebody else is not there', async () => {
  const run = await runWith(CHUNKS, { resultSeq: 4 })
  expect(await findShown(log.database.db, { run, tenant: 'other' })).toBeUndefined()
})
