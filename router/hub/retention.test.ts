import { sql } from 'drizzle-orm'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { assertions, enrolments, idempotency } from '../../drizzle/schema.ts'
import { appendOf, lines, mark, nextTurn, openLog, part, type LogRig } from '../../test/kit/log.ts'
import type { Log, Platform } from '../ports.ts'
import { keptBytes, markPruned } from '../store/retention.ts'
import { GroupCommitLog, sqlCommit } from '../hub/event-log.ts'
import { pruneSecrets } from '../store/retention.ts'
import { Retention, type Keep } from './retention.ts'

const clock = () => performance.now()
const DAY_MS = 86_400_000
const quiet: Log = { info: () => undefined, warn: () => undefined, error: () => undefined }

let rig: LogRig
let now: number
const watched = new Set<string>()
beforeEach(async () => {
  rig = await openLog()
  now = 0
  watched.clear()
})
afterEach(() => rig.close())

const platform = { now: () => now } as Platform
const sweep = (keep: Partial<Keep>) =>
  new Retention({
    store: rig.database,
    platform,
    log: quiet,
    keep: { ageMs: 30 * DAY_MS, bytes: 1e12, ...keep },
    watched: (run) => watched.has(run),
    clock,
  }).sweep()

/** A run that ended at `now` with about so many bytes of events. */
async function ended(bytes = 1_000, rows = 4): Promise<string> {
  const run = await rig.run()
  const log = new GroupCommitLog(sqlCommit(rig.database, platform), nextTurn)
  const text = 'x'.repeat(Math.floor(bytes / rows))
  for (let seq = 1; seq <= rows; seq++) await log.append(appendOf(run, [lines(seq, [text])]))
  await log.append(
    appendOf(run, [mark(rows + 1, { kind: 'exit' })], {
      ending: { state: 'succeeded', error: undefined, result: undefined, durationMs: 1, costUsd: 0, provider: undefined },
    }),
  )
  return run
}

const isKept = async (run: string) => (await rig.rows(run)).length > 0

describe('retention', () => {
  it('knows the size of what an ended run left, parts of long lines included', async () => {
    const run = await rig.run()
    const log = new GroupCommitLog(sqlCommit(rig.database, platform), nextTurn)
    await log.append(appendOf(run, [lines(1, ['12345', '67']), part(3, 0, 2, 'ab'), part(3, 1, 2, 'c')]))
    expect(await keptBytes(rig.database.db)).toBe(0)
    await log.append(
      appendOf(run, [mark(4, {})], { ending: { state: 'failed', error: undefined, result: undefined, durationMs: 1, costUsd: 0, provider: undefined } }),
    )
    expect(await rig.row(run)).toMatchObject({ eventBytes: 6 + 3 + 2 + 1 + 2, prunedAt: null })
    expect(await keptBytes(rig.database.db)).toBe(14)
  })

  it('lets go of what is older than its time, and of nothing else', async () => {
    const old = await ended()
    now = DAY_MS
    const young = await ended()
    const live = await rig.run()
    await new GroupCommitLog(sqlCommit(rig.database, platform), nextTurn).append(appendOf(live, [lines(1, ['{}'])]))
    now = 30 * DAY_MS
    await sweep({})
    expect([await isKept(old), await isKept(young)]).toEqual([true, true])
    now = 30 * DAY_MS + 1
    await sweep({})
    expect([await isKept(old), await isKept(young), await isKept(live)]).toEqual([false, true, true])
    expect(await rig.row(old)).toMatchObject({ state: 'succeeded', prunedAt: now, eventBytes: 0, lastSeq: 5 })
    now = 3_000 * DAY_MS
    await sweep({})
    expect([await isKept(young), await isKept(live)]).toEqual([false, true])
  })

  it('lets go of the oldest until the rest is small enough, page after page', async () => {
    const runs: string[] = []
    for (let i = 0; i < 250; i++) {
      runs.push(await ended(1_000, 1))
      now += i % 2
    }
    now += 60_001
    const total = await keptBytes(rig.database.db)
    await sweep({ bytes: total / 5 })
    const kept = await Promise.all(runs.map(isKept))
    expect(kept.filter(Boolean)).toHaveLength(50)
    expect(kept).toEqual(kept.toSorted((a, b) => Number(a) - Number(b)))
  })

  it('leaves a run for a minute to whoever waited for it, however little is to be kept', async () => {
    const run = await ended()
    now = 60_000
    await sweep({ bytes: 0 })
    expect(await isKept(run)).toBe(true)
    now = 60_001
    await sweep({ bytes: 0 })
    expect(await isKept(run)).toBe(false)
  })

  it('leaves alone what is being read, takes what comes after it, and comes back', async () => {
    const [read, next] = [await ended(), await ended()]
    watched.add(read)
    now = 60 * DAY_MS
    await sweep({})
    expect([await isKept(read), await isKept(next)]).toEqual([true, false])
    expect(await rig.row(read)).toMatchObject({ prunedAt: null })
    watched.clear()
    await sweep({})
    expect(await isKept(read)).toBe(false)
  })

  it('leaves alone what somebody began to read while it was being marked', async () => {
    const run = await ended()
    now = 60 * DAY_MS
    let asked = 0
    const keep = { ageMs: 1, bytes: 1e12 }
    await new Retention({ store: rig.database, platform, log: quiet, keep, watched: () => asked++ > 0, clock }).sweep()
    expect(await isKept(run)).toBe(true)
    expect(await rig.row(run)).toMatchObject({ prunedAt: null })
  })

  it('finishes what an earlier process had begun', async () => {
    const run = await ended()
    await markPruned(rig.database.db, run, 5)
    await sweep({})
    expect(await isKept(run)).toBe(false)
    expect(await rig.row(run)).toMatchObject({ prunedAt: 5, eventBytes: 0 })
  })

  it('deletes a large run in pieces, and stops between two of them when it is closed', async () => {
    const run = await ended(8 * 1024 * 1024, 128)
    now = 60 * DAY_MS
    const retention = new Retention({
      store: rig.database,
      platform,
      log: quiet,
      keep: { ageMs: 1, bytes: 1 },
      watched: () => false,
      clock,
    })
    const sweeping = retention.sweep()
    for (;;) {
      await new Promise((resolve) => setImmediate(resolve))
      const left = (await rig.rows(run)).length
      if (left < 129) break
    }
    await retention.close()
    await sweeping
    expect((await rig.rows(run)).length).toBeGreaterThan(0)
    expect(await rig.row(run)).toMatchObject({ prunedAt: now })
    await sweep({})
    expect(await isKept(run)).toBe(false)
  })

  it('drops keys, one-time tokens and assertions that can no longer be used', async () => {
    const { db } = rig.database
    const enrolment = { tenant: 't', pool: 'p', createdAt: 0 }
    await db.insert(enrolments).values([
      { ...enrolment, hash: 'expired', expiresAt: 99 },
      { ...enrolment, hash: 'used', expiresAt: 500, usedAt: 1 },
      { ...enrolment, hash: 'good', expiresAt: 500 },
    ])
    await db.insert(assertions).values([
      { jti: 'expired', expiresAt: 99 },
      { jti: 'good', expiresAt: 500 },
    ])
    await db.insert(idempotency).values([
      { tenant: 't', key: 'expired', hash: 'h', run: 'r', expiresAt: 99 },
      { tenant: 't', key: 'good', hash: 'h', run: 'r', expiresAt: 500 },
    ])
    await pruneSecrets(db, 100)
    expect(
      await db.all(sql`SELECT hash FROM enrolments UNION ALL SELECT jti FROM assertions UNION ALL SELECT key FROM idempotency`),
    ).toEqual([{ hash: 'good' }, { hash: 'good' }, { hash: 'good' }])
  })

  it('asks the index alone for the size of everything', async () => {
    const plan: { detail: string }[] = await rig.database.db.all(
      sql`EXPLAIN QUERY PLAN SELECT sum(event_bytes) FROM runs WHERE ended_at IS NOT NULL AND pruned_at IS NULL`,
    )
    expect(plan.map((p) => p.detail).join()).toContain('COVERING INDEX runs_kept')
  })
})
