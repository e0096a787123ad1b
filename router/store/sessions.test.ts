import { eq } from 'drizzle-orm'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { runs, sessions } from '../../drizzle/schema.ts'
import { openLog, type LogRig } from '../../test/kit/log.ts'
import { insertRun } from './runs.ts'
import { claimOpening, deleteSessions, findSession, isSession, yieldOpening } from './sessions.ts'

let log: LogRig
beforeAll(async () => {
  log = await openLog()
})
afterAll(() => log.close())

async function prepared(): Promise<string> {
  const id = crypto.randomUUID()
  await log.database.db.insert(sessions).values({ id, tenant: 'default', createdAt: 1, updatedAt: 1, lastRunAt: 1 })
  return id
}

describe('a prepared session', () => {
  it('is opened by one of many runs', async () => {
    const id = await prepared()
    const claims = await Promise.all(Array.from({ length: 20 }, (_, i) => claimOpening(log.database.db, id, `run_${i}`, 100)))
    expect(claims.filter(Boolean)).toHaveLength(1)
  })

  it('is free again when the run that was to open it did not come to be', async () => {
    const id = await prepared()
    expect(await claimOpening(log.database.db, id, 'run_a', 100)).toBe(true)
    await yieldOpening(log.database.db, id, 'run_b')
    expect(await claimOpening(log.database.db, id, 'run_c', 101)).toBe(false)
    await yieldOpening(log.database.db, id, 'run_a')
    expect(await claimOpening(log.database.db, id, 'run_c', 102)).toBe(true)
  })

  it('is free again after a while when nobody knows what became of that run, but not while it lives', async () => {
    const id = await prepared()
    const run = await log.run()
    expect(await claimOpening(log.database.db, id, run, 0)).toBe(true)
    expect(await claimOpening(log.database.db, id, 'run_later', 120_000)).toBe(false)
    await log.database.db.update(runs).set({ endedAt: 5, state: 'failed' }).where(eq(runs.id, run))
    expect(await claimOpening(log.database.db, id, 'run_later', 1)).toBe(true)
    // That one has no row: a minute is enough to get one.
    expect(await claimOpening(log.database.db, id, 'run_last', 30_000)).toBe(false)
    expect(await claimOpening(log.database.db, id, 'run_last', 70_000)).toBe(true)
  })

  it('has no opening any more once it is on a machine', async () => {
    const id = await prepared()
    await log.database.db.update(sessions).set({ runner: 'rnr_1', cwd: '/work' }).where(eq(sessions.id, id))
    expect(await claimOpening(log.database.db, id, 'run_a', 100)).toBe(false)
    expect(await findSession(log.database.db, 'default', id)).toMatchObject({ runner: 'rnr_1', opener: null })
    expect(await findSession(log.database.db, 'other', id)).toBeUndefined()
  })
})

describe('a session that is deleted while somebody asks for a run of it', () => {
  const gone = (id: string, now: number) => deleteSessions(log.database, isSession('default', id), now)

  it('stays when that run is about to be its first, and goes when it did not come to be', async () => {
    const id = await prepared()
    await claimOpening(log.database.db, id, 'run_a', 100)
    expect(await gone(id, 101)).toBe(0)
    await yieldOpening(log.database.db, id, 'run_a')
    expect(await gone(id, 102)).toBe(1)
  })

  it('does not stay for one that nobody knows anything of any more', async () => {
    const id = await prepared()
    await claimOpening(log.database.db, id, 'run_a', 100)
    expect(await gone(id, 60_101)).toBe(1)
  })

  it('does not come back: the run that was to go on with it is not taken', async () => {
    const id = await prepared()
    const asked = {
      id: 'run_x',
      tenant: 'default',
      subject: 's',
      token: 't',
      session: id,
      pool: 'default',
      labels: {},
      bound: 'rnr_1',
      needs: {},
      priority: 5,
      queueUntil: 0,
      timeoutS: 60,
      onDisconnectMs: null,
      model: null,
      metadata: null,
      origin: 'native',
      batch: null,
      batchIndex: null,
      task: null,
      webhook: null,
      createdAt: 1,
      spec: { tenant: 'default', session: { mode: 'resume', id }, prompt: 'x', timeout_s: 60 },
    } as const
    expect(await gone(id, 1)).toBe(1)
    for (const runner of [undefined, 'rnr_1']) expect(await insertRun(log.database, asked, runner, undefined)).toBe(false)
    for (const claim of [{ key: 'k', hash: 'h' }]) expect(await insertRun(log.database, asked, undefined, claim)).toBe(false)
    expect(await log.row('run_x')).toBeUndefined()
  })
})
