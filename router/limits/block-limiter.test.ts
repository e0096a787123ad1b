import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { eq } from 'drizzle-orm'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { rateLimits } from '../../drizzle/schema.ts'
import { intervalMs } from '../core/gcra.ts'
import { openDatabase, type Database } from '../node/database.ts'
import type { Draw, Log } from '../ports.ts'
import { giveBackShared, standingOf, takeShared } from '../store/rate-limits.ts'
import { BlockLimiter } from './block-limiter.ts'

const quiet: Log = { info: () => undefined, warn: () => undefined, error: () => undefined }
const START = 1_800_000_000_000

let dir: string
let database: Database
let count = 0
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'runyard-limits-'))
  database = await openDatabase(join(dir, 'test.db'))
})
afterAll(async () => {
  await database.close()
  await rm(dir, { recursive: true, force: true })
})

/** As one process has it. What it does in the background is done when `settled` resolves. */
function replica(of: Pick<Database, 'db'> = database) {
  const work: Promise<unknown>[] = []
  const platform = { background: (one: Promise<unknown>) => void work.push(one) }
  const limiter = new BlockLimiter({ db: of.db, log: quiet, now: () => performance.now(), platform })
  return { limiter, settled: () => Promise.all(work) }
}

/** Statements that take longer than what they take may be held. */
const later =
  (db: Database['db']) =>
  async (...args: Parameters<Database['db']['all']>) => {
    await new Promise((resolve) => setTimeout(resolve, 80))
    return db.all(...args)
  }

const draw = (rate: number, burst: number): Draw => ({ key: `k${++count}`, rate: { rate, burst } })

describe('a limit in the database', () => {
  it('takes many at once or none, and says where it stands', async () => {
    const rate = { rate: 10, burst: 5 }
    const key = draw(1, 1).key
    const take = (n: number, now: number) => takeShared(database.db, key, rate, n, now)
    expect(await take(3, START)).toEqual({ tat: START + 3 * intervalMs(rate), now: START })
    expect(await take(3, START)).toBeUndefined()
    expect(await standingOf(database.db, key, rate, START)).toEqual({ tat: START + 300, now: START })
    expect(await take(2, START)).toBeDefined()
    expect(await take(1, START + 99)).toBeUndefined()
    expect(await take(1, START + 100)).toBeDefined()
    await giveBackShared(database.db, key, rate, 1)
    expect(await take(1, START + 100)).toBeDefined()
  })

  it('is no further ahead than a full burst when its clock was set back', async () => {
    const rate = { rate: 10, burst: 5 }
    const key = draw(1, 1).key
    await takeShared(database.db, key, rate, 5, START)
    const earlier = START - 86_400_000
    expect(await takeShared(database.db, key, rate, 1, earlier)).toBeUndefined()
    expect(await standingOf(database.db, key, rate, earlier)).toEqual({ tat: earlier + 500, now: earlier })
    expect(await takeShared(database.db, key, rate, 1, earlier + 100)).toBeDefined()
  })
})

describe('a limiter that takes blocks', () => {
  it('lets exactly the burst of a small limit through, however many ask at once', async () => {
    const { limiter } = replica()
    const limit = draw(0.01, 20)
    const all = await Promise.all(Array.from({ length: 50 }, () => limiter.take('t', [limit])))
    expect(all.filter(({ ok }) => ok).length).toBe(20)
    const refused = all.find(({ ok }) => !ok)
    expect(refused).toEqual({ ok: false, limit, retryAfterMs: expect.any(Number) as number })
    expect(refused && 'retryAfterMs' in refused && refused.retryAfterMs).toBeGreaterThan(90_000)
  })

  it('counts down what is left', async () => {
    const { limiter } = replica()
    const limit = draw(0.01, 3)
    const left = []
    for (let i = 0; i < 3; i++) left.push(await limiter.take('t', [limit]))
    expect(left.map((d) => d.ok && d.remaining)).toEqual([2, 1, 0])
  })

  it('takes of all limits or of none', async () => {
    const { limiter, settled } = replica()
    const [wide, tight] = [draw(0.01, 10), draw(0.01, 2)]
    const all = []
    for (let i = 0; i < 5; i++) all.push(await limiter.take('t', [wide, tight]))
    expect(all.map(({ ok }) => ok)).toEqual([true, true, false, false, false])
    await settled()
    const alone = await Promise.all(Array.from({ length: 10 }, () => limiter.take('t', [wide])))
    expect(alone.filter(({ ok }) => ok).length).toBe(8)
  })

  it('never lets more through than burst + rate × time, with replicas that hammer the limit', { timeout: 30_000 }, async () => {
    const rate = { rate: 2_000, burst: 1_000 }
    const limit = { key: draw(1, 1).key, rate }
    const others = await Promise.all([1, 2].map(() => openDatabase(join(dir, 'test.db'))))
    const limiters = [database, ...others].map((of) => replica(of).limiter)
    const admitted: number[] = []
    const begun = performance.now()
    const client = async (limiter: BlockLimiter) => {
      while (performance.now() - begun < 1_500) {
        const { ok } = await limiter.take('t', [limit])
        if (ok) admitted.push(performance.now())
        else await new Promise((resolve) => setTimeout(resolve, 1))
      }
    }
    await Promise.all(limiters.flatMap((limiter) => Array.from({ length: 20 }, () => client(limiter))))
    for (const other of others) await other.close()
    for (let i = 0; i < admitted.length; i += 97) {
      for (let j = i; j < admitted.length; j += 101) {
        // A commit lies between what the database counts and what is seen here.
        const seconds = (admitted[j]! - admitted[i]! + 20) / 1_000
        expect(j - i + 1).toBeLessThanOrEqual(rate.burst + rate.rate * seconds)
      }
    }
    // And it is not a limit that keeps everybody out.
    expect(admitted.length).toBeGreaterThan(rate.burst + rate.rate * 0.5)
  })

  it('lets in whom it may, however slow the database is', async () => {
    const slow = { db: new Proxy(database.db, { get: (db, name) => (name === 'all' ? later(db) : Reflect.get(db, name)) as unknown }) }
    const limit = draw(1_000, 500)
    const { limiter } = replica(slow)
    const all = await Promise.all(Array.from({ length: 40 }, () => limiter.take('t', [limit])))
    expect(all.every(({ ok }) => ok)).toBe(true)
  })

  it('asks the database seldom', async () => {
    const limit = draw(5_000, 5_000)
    const { limiter } = replica()
    for (let i = 0; i < 400; i++) expect((await limiter.take('t', [limit])).ok).toBe(true)
    const [row] = await database.db.select().from(rateLimits).where(eq(rateLimits.id, limit.key))
    // One block is 500.
    expect(row!.tat - Date.now()).toBeLessThan(501 * intervalMs(limit.rate))
  })

  it('counts by itself while the database cannot be asked', async () => {
    const other = await openDatabase(join(dir, 'gone.db'))
    const { limiter } = replica(other)
    const limit = draw(0.01, 2)
    await other.close()
    const all = []
    for (let i = 0; i < 4; i++) all.push((await limiter.take('t', [limit])).ok)
    expect(all).toEqual([true, true, false, false])
  })

  it('follows a limit that is changed', async () => {
    const { limiter } = replica()
    const key = draw(1, 1).key
    const take = async (burst: number) => (await limiter.take('t', [{ key, rate: { rate: 0.01, burst } }])).ok
    expect([await take(1), await take(1), await take(3), await take(3), await take(3)]).toEqual([true, false, true, true, false])
  })
})
