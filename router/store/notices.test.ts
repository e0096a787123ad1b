import { eq } from 'drizzle-orm'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { notices, prompts, runs, webhooks } from '../../drizzle/schema.ts'
import type { ExitMark } from '../../shared/marks.ts'
import { appendOf, mark, openLog, type LogRig } from '../../test/kit/log.ts'
import { endingOf } from '../core/run-state.ts'
import { endingStatements } from './notices.ts'
import { appendStatements } from './run-events.ts'
import { lease } from './runs.ts'

const crashed: ExitMark = { kind: 'exit', code: 1, signal: null, reason: 'crashed', duration_ms: 1 }

let log: LogRig
beforeAll(async () => {
  log = await openLog()
})
afterAll(() => log.close())
beforeEach(async () => {
  await log.database.db.delete(webhooks)
  await log.database.db.delete(notices)
})

const listen = (tenant: string, enabled = true) =>
  log.database.db.insert(webhooks).values({
    tenant,
    id: 'w',
    url: 'https://example.com/',
    sealedSecret: 'x',
    sealedBy: 'k',
    format: 'standard',
    enabled,
    createdAt: 1,
    updatedAt: 1,
  })

async function end(run: string, fence = 1): Promise<void> {
  const append = { ...appendOf(run, [mark(1, crashed)], { ending: endingOf(crashed, false) }), fence }
  const { db } = log.database
  await log.database.batch([...endingStatements(db, append, 7), ...appendStatements(db, append, 7)])
}

const told = async () => (await log.database.db.select().from(notices)).map(({ event, run, at }) => [event, run, at])

describe('the end of a run', () => {
  it('is noted once, in its commit, where its tenant listens', async () => {
    await listen('default')
    const run = await log.run()
    await end(run)
    await end(run)
    expect(await told()).toEqual([['run.failed', run, 7]])
  })

  it('is noted where the run itself named an address', async () => {
    const run = await log.run()
    await log.database.db.update(runs).set({ webhook: { url: 'https://example.com/', format: 'standard' } }).where(eq(runs.id, run))
    await end(run)
    expect(await told()).toEqual([['run.failed', run, 7]])
  })

  it('is nobody’s news where nobody listens, or only somebody else', async () => {
    await listen('other')
    await listen('default', false)
    await end(await log.run())
    expect(await told()).toEqual([])
  })

  it('is not noted by who was overtaken', async () => {
    await listen('default')
    const run = await log.run(2)
    await end(run, 1)
    expect(await told()).toEqual([])
    expect((await log.row(run))?.endedAt).toBeNull()
  })
})

describe('the lease of a run', () => {
  it('keeps what was asked, and is noted, in one commit', async () => {
    await listen('default')
    const run = await log.run()
    const { session } = (await log.row(run))!
    const spec = { tenant: 'default', session: { mode: 'new' as const, id: session }, prompt: 'Say "hello".\n€\0 \ud800', timeout_s: 60 }
    await log.database.db.update(runs).set({ state: 'offered', runner: 'rnr_1', spec }).where(eq(runs.id, run))
    expect(await lease(log.database, run, 1, { cwd: '/work' }, 5)).toMatchObject({ id: run, state: 'leased', cwd: '/work' })
    expect(await lease(log.database, run, 1, { cwd: '/work' }, 6)).toBeUndefined()
    expect(await told()).toEqual([['session.created', null, 5], ['run.started', run, 5]])
    const [asked] = await log.database.db.select().from(prompts).where(eq(prompts.run, run))
    expect(asked?.text).toBe('Say "hello".\n€\0 \ud800')
  })
})
