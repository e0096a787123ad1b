import { getTableColumns, eq } from 'drizzle-orm'
import * as fc from 'fast-check'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { runs } from '../../drizzle/schema.ts'
import { openLog, type LogRig } from '../../test/kit/log.ts'
import { listRuns, type RunFilter } from './run-pages.ts'
import { findRun } from './runs.ts'

let log: LogRig
beforeAll(async () => {
  log = await openLog()
})
afterAll(() => log.close())

let made = 0
async function insert(tenant: string, more: Partial<typeof runs.$inferInsert> = {}): Promise<string> {
  const id = `run_${(++made).toString(16).padStart(32, '0')}`
  const usual = { subject: 's', token: 't', session: id, pool: 'default', state: 'succeeded', labels: {}, needs: {}, priority: 5, queueUntil: 0, timeoutS: 1, createdAt: 0 } as const
  await log.database.db.insert(runs).values({ id, tenant, ...usual, ...more })
  return id
}

it('a row is read as drizzle reads it, whatever is in it', async () => {
  const { db } = log.database
  const whole = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER })
  const words = fc.dictionary(fc.string(), fc.string(), { noNullPrototype: true })
  const row = fc.record(
    {
      isError: fc.option(fc.boolean()),
      task: fc.option(fc.boolean()),
      costUsd: fc.option(fc.double({ noNaN: true, noDefaultInfinity: true })),
      endedAt: fc.option(whole),
      errorMessage: fc.option(fc.string({ unit: 'grapheme' })),
      labels: words,
      metadata: fc.option(words),
      usage: fc.option(fc.record({ input_tokens: whole, output_tokens: whole, cache_creation_input_tokens: whole, cache_read_input_tokens: whole }, { noNullPrototype: true })),
    },
    { requiredKeys: [], noNullPrototype: true },
  )
  await fc.assert(
    fc.asyncProperty(row, async (more) => {
      const id = await insert('t', more)
      const [theirs] = await db.select(getTableColumns(runs)).from(runs).where(eq(runs.id, id))
      const ours = await findRun(db, 't', id)
      expect(ours).toEqual(theirs)
      const [listed] = await listRuns(db, 't', { status: undefined, session: id, before: undefined, limit: 1 })
      expect(theirs).toMatchObject(listed!)
    }),
    { numRuns: 50 },
  )
})

it('runs are listed the newest first, by status, by session and from one on, and never those of another tenant', async () => {
  const { db } = log.database
  const old = await insert('mine', { session: 'a' })
  const offered = await insert('mine', { session: 'b', state: 'offered' })
  await insert('theirs', { session: 'c' })
  const queued = await insert('mine', { session: 'b', state: 'queued' })
  const newest = await insert('mine', { session: 'a' })
  const ids = async (filter: Partial<RunFilter>) =>
    (await listRuns(db, 'mine', { status: undefined, session: undefined, before: undefined, limit: 10, ...filter })).map(({ id }) => id)
  expect(await ids({})).toEqual([newest, queued, offered, old])
  expect(await ids({ limit: 1 })).toEqual([newest])
  expect(await ids({ status: 'queued' })).toEqual([queued, offered])
  expect(await ids({ status: 'succeeded', before: newest })).toEqual([old])
  expect(await ids({ session: 'a' })).toEqual([newest, old])
  expect(await ids({ session: 'b', before: queued, status: 'queued' })).toEqual([offered])
  expect(await ids({ session: 'c' })).toEqual([])
})
