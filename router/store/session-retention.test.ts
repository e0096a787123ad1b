import { eq, sql } from 'drizzle-orm'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { notices, prompts, runEvents, runs, sessions, settings, webhooks } from '../../drizzle/schema.ts'
import { openLog, type LogRig } from '../../test/kit/log.ts'
import { marked } from './retention.ts'
import { pruneSessions, readRetention, retentionStatement } from './session-retention.ts'
import { deleteSessions, isSession } from './sessions.ts'

const DAY = 86_400_000
const NOW = 100 * DAY

let log: LogRig
beforeAll(async () => {
  log = await openLog()
})
afterAll(() => log.close())
beforeEach(async () => {
  for (const table of [sessions, runs, prompts, runEvents, notices, settings, webhooks]) await log.database.db.delete(table)
})

const keep = (days: number) => log.database.batch([retentionStatement(log.database.db, { session_days: days }, 1)])
const left = async () => (await log.database.db.select().from(sessions)).map(({ title }) => title)

async function session(title: string, lastRunAt: number): Promise<string> {
  const id = crypto.randomUUID()
  await log.database.db.insert(sessions).values({ id, tenant: 'default', title, createdAt: 1, updatedAt: 1, lastRunAt })
  return id
}

/** A run of it that has a prompt and an event. */
async function runOf(id: string, how: Partial<typeof runs.$inferInsert>): Promise<string> {
  const { db } = log.database
  const run = await log.run()
  await db.update(runs).set({ session: id, startedAt: 1, metadata: { note: 'x' }, eventBytes: 3, ...how }).where(eq(runs.id, run))
  await db.insert(prompts).values({ run, session: id, text: 'hi' })
  await db.insert(runEvents).values({ run, first: 1, count: 1, kind: 'ev', bytes: new TextEncoder().encode('{}\n') })
  return run
}
const ended = { state: 'succeeded', endedAt: 5, runner: 'rnr_1' } as const

describe('sessions that nobody uses', () => {
  it('go after thirty days unless something else is set', async () => {
    await session('old', NOW - 30 * DAY - 1)
    await session('young', NOW - 30 * DAY)
    expect(await readRetention(log.database.db)).toEqual({ session_days: 30 })
    expect(await pruneSessions(log.database, NOW)).toBe(1)
    expect(await left()).toEqual(['young'])
  })

  it('go after the days that are set, or never', async () => {
    await session('two', NOW - 2 * DAY)
    await session('four', NOW - 4 * DAY)
    await keep(0)
    expect(await pruneSessions(log.database, NOW)).toBe(0)
    await keep(3)
    expect(await pruneSessions(log.database, NOW)).toBe(1)
    expect(await left()).toEqual(['two'])
  })

  it('stay for as long as a run of them waits or is under way', async () => {
    const [busy, idle] = [await session('busy', 1), await session('idle', 2)]
    const live = await runOf(busy, { state: 'queued' })
    await runOf(idle, ended)
    expect(await pruneSessions(log.database, NOW)).toBe(1)
    expect(await left()).toEqual(['busy'])
    await log.database.db.update(runs).set(ended).where(eq(runs.id, live))
    expect(await pruneSessions(log.database, NOW)).toBe(1)
  })

  it('go however many they are', async () => {
    for (let i = 0; i < 120; i++) await session(`s${i}`, i)
    expect(await pruneSessions(log.database, NOW)).toBe(120)
    expect(await left()).toEqual([])
  })

  it('are told of, once each', async () => {
    const webhook = { tenant: 'default', id: 'w', url: 'https://example.com/', sealedSecret: 'x', sealedBy: 'k', format: 'standard', enabled: true } as const
    await log.database.db.insert(webhooks).values({ ...webhook, createdAt: 1, updatedAt: 1 })
    const id = await session('old', 1)
    await pruneSessions(log.database, NOW)
    await pruneSessions(log.database, NOW)
    expect(await log.database.db.select().from(notices)).toMatchObject([{ event: 'session.deleted', session: id, at: NOW }])
  })
})

describe('a session that is deleted', () => {
  it('takes what was said with it, and leaves the numbers of its runs', async () => {
    const { db } = log.database
    const id = await session('gone', 1)
    const other = await session('other', 1)
    const [ran, refused, others] = [await runOf(id, ended), await runOf(id, { state: 'failed', endedAt: 6, runner: null }), await runOf(other, ended)]
    expect(await deleteSessions(log.database, isSession('default', id), NOW)).toBe(1)
    expect(await left()).toEqual(['other'])
    expect((await db.select().from(prompts)).map(({ run }) => run)).toEqual([others])
    expect(await log.row(ran)).toMatchObject({ metadata: null, prunedAt: NOW, eventBytes: 3, state: 'succeeded' })
    // What reached a machine goes in pieces with the next sweep, and what did not is gone.
    expect(await marked(db, 10)).toEqual([ran])
    expect(await log.row(refused)).toMatchObject({ metadata: null, prunedAt: NOW, eventBytes: 0 })
    expect(await log.rows(refused)).toEqual([])
    expect(await log.row(others)).toMatchObject({ metadata: { note: 'x' }, prunedAt: null })
  })

  it('is left as it is by somebody else, and while it is in use', async () => {
    const id = await session('here', 1)
    await runOf(id, { state: 'running', runner: 'rnr_1' })
    expect(await deleteSessions(log.database, isSession('default', id), NOW)).toBe(0)
    expect(await deleteSessions(log.database, isSession('other', id), NOW)).toBe(0)
    expect(await deleteSessions(log.database, sql`its.id = ${`${id}' OR '1'='1`}`, NOW)).toBe(0)
    expect(await log.database.db.select().from(prompts)).toHaveLength(1)
    expect(await left()).toEqual(['here'])
  })
})
