import { and, eq, isNull, sql } from 'drizzle-orm'
import * as fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { allowances, reservations, runs } from '../../drizzle/schema.ts'
import { appendOf, mark, openLog, type LogRig } from '../../test/kit/log.ts'
import { allowanceId, wantsOf, type AllowanceKind } from '../core/budget.ts'
import { endingOf } from '../core/run-state.ts'
import type { ExitMark } from '../../shared/marks.ts'
import type { TenantLimits } from '../../shared/tenant-settings.ts'
import { releaseStatements, reserve, settleEnding, spentBudget, sweepLedger, whatIsFull } from './allowances.ts'
import { appendStatements } from './run-events.ts'
import { dropRefused, takeFromQueue } from './runs.ts'

const DAY = 86_400_000
/** The rows of the kit were made in the first millisecond of 1970. */
const NOW = 1
const usage = { input_tokens: 1, output_tokens: 1, cache_creation_input_tokens: 0, cache_read_input_tokens: 0 }
const done = (costUsd: number): ExitMark => ({
  kind: 'exit',
  code: 0,
  signal: null,
  reason: 'completed',
  duration_ms: 1,
  result: { seq: 1, is_error: false, cost_usd: costUsd, usage, num_turns: 1 },
})
const killed: ExitMark = { kind: 'exit', code: null, signal: 'SIGKILL', reason: 'timeout', duration_ms: 1 }

let log: LogRig
let count = 0
beforeAll(async () => {
  log = await openLog()
})
afterAll(() => log.close())

/** A tenant of its own with these limits, and what its runs do. */
function tenant(limits: TenantLimits, token = 'jti') {
  const name = `t${++count}`
  const { database } = log
  const by = (run: string) => ({ tenant: name, token, session: run, createdAt: NOW, tokenSince: 0 })
  return {
    name,
    wants: (run: string, usd?: number) => wantsOf(by(run), usd, limits, {}).wants,
    reserve(run: string, usd?: number, set = limits) {
      const { wants } = wantsOf(by(run), usd, set, {})
      return reserve(database, run, by(run), wants, NOW)
    },
    async row(id?: string): Promise<string> {
      const run = await log.run()
      const state: 'offered' | 'leased' = id === undefined ? 'leased' : 'offered'
      const set = { id: id ?? run, state, tenant: name, session: id ?? run, token, createdAt: NOW }
      await database.db.update(runs).set(set).where(eq(runs.id, run))
      return set.id
    },
    async end(run: string, exit: ExitMark, fence = 1): Promise<boolean> {
      const append = { ...appendOf(run, [mark(1, exit)], { ending: endingOf(exit, false) }), fence }
      const results = await database.batch([...settleEnding(database.db, append, 5), ...appendStatements(database.db, append, 5)])
      return (results.at(-1) as unknown[]).length > 0
    },
    async allowance(kind: AllowanceKind, run = 'x') {
      const [row] = await database.db.select().from(allowances).where(eq(allowances.id, allowanceId(kind, by(run))))
      return row && { spent: row.spent, held: row.held }
    },
    open: () =>
      database.db
        .select()
        .from(reservations)
        .where(and(eq(reservations.tenant, name), isNull(reservations.settledAt)))
        .orderBy(reservations.run, reservations.allowance),
  }
}

describe('the ledger', () => {
  it('takes room in every budget of a run or in none', async () => {
    const own = tenant({ budget: { total_usd: 3, session_usd: 1 } })
    expect(await own.reserve('a')).toBe(true)
    expect(await own.reserve('b', 2.5)).toBe(false)
    expect(await own.allowance('tenant')).toEqual({ spent: 0, held: 1_000_000 })
    expect(await own.allowance('session', 'b')).toBeUndefined()
    const full = { want: { kind: 'tenant' }, spent: 0, held: 1_000_000 }
    expect(await whatIsFull(log.database.db, own.wants('b', 2.5))).toMatchObject(full)
    expect(await own.reserve('b', 1)).toBe(true)
    expect(await own.reserve('c', 1)).toBe(true)
    expect(await own.reserve('d', 0.000001)).toBe(false)
    expect((await own.open()).length).toBe(6)
  })

  it('lets no more in than there is room for, however many ask at once', async () => {
    const own = tenant({ budget: { day_usd: 10 }, concurrent_runs: 30 })
    const all = await Promise.all(Array.from({ length: 50 }, (_, i) => own.reserve(`r${i}`)))
    expect(all.filter(Boolean).length).toBe(10)
    expect(await own.allowance('day')).toEqual({ spent: 0, held: 10_000_000 })
    expect(await own.allowance('runs')).toEqual({ spent: 0, held: 10 })
  })

  it.each(['bob\ud800', '\udc00', 'a\0b', 'a"b\\c', '\u{1f600}'])('counts what a token that is called %j takes', async (token) => {
    const own = tenant({ budget: { total_usd: 100, token_usd: 2 } }, token)
    const said: boolean[] = []
    for (const run of ['a', 'b', 'c']) said.push(await own.reserve(`${own.name}-${run}`, 1))
    expect(said).toEqual([true, true, false])
    expect(await own.allowance('token')).toEqual({ spent: 0, held: 2_000_000 })
    const run = await own.row(`${own.name}-a`)
    expect(await own.end(run, done(0.5), 1)).toBe(true)
    expect(await own.allowance('token')).toEqual({ spent: 500_000, held: 1_000_000 })
  })

  it.each([Infinity, NaN])('has no limit that is %s', async (limit) => {
    const own = tenant({ budget: { total_usd: 1 } })
    const wants = own.wants('a', 1).map((want) => ({ ...want, limit }))
    const by = { tenant: own.name, token: 'jti', session: 'a', createdAt: NOW, tokenSince: 0 }
    await expect(reserve(log.database, 'a', by, wants, NOW)).rejects.toThrow(RangeError)
  })

  it('holds a cent at least, or all that is left, so that not any number of runs gets in for next to nothing', async () => {
    const own = tenant({ budget: { total_usd: 0.035, session_usd: 1 } })
    for (const run of ['a', 'b', 'c', 'd']) expect(await own.reserve(run, 0.000001)).toBe(true)
    expect(await own.reserve('e', 0.000001)).toBe(false)
    expect((await own.open()).map(({ amount }) => amount)).toEqual([1, 1, 1, 1, 1, 1, 0.5, 0.5].map((cents) => cents * 10_000))
    expect(await own.allowance('tenant')).toEqual({ spent: 0, held: 35_000 })
  })

  it('lets no run out of the line once a budget of it is spent', async () => {
    const own = tenant({ budget: { total_usd: 0.8 } })
    const { db } = log.database
    const [dear, waiting, free] = [await own.row(), await own.row(), await own.row()]
    await own.reserve(dear, 0.000001)
    await own.reserve(waiting, 0.000001)
    for (const run of [waiting, free]) await db.update(runs).set({ state: 'queued', spec: {} as never }).where(eq(runs.id, run))
    expect(await spentBudget(db, waiting)).toBeUndefined()
    await own.end(dear, done(0.8))
    expect(await takeFromQueue(db, waiting, 1, 'r')).toBeUndefined()
    expect(await spentBudget(db, waiting)).toEqual({ id: `${own.name}/usd`, limit: 800_000, spent: 800_000, held: 10_000 })
    // It has no budget.
    expect(await takeFromQueue(db, free, 1, 'r')).toEqual({})
  })

  it('leaves nothing of a session behind whose runs were all refused', async () => {
    const own = tenant({ budget: { total_usd: 1, session_usd: 5, token_usd: 5 } })
    await own.reserve('full', 1)
    for (const run of ['a', 'b', 'c']) expect(await own.reserve(run, 1)).toBe(false)
    await log.database.batch(releaseStatements(log.database.db, 'full'))
    const rows = await log.database.db.select({ id: allowances.id }).from(allowances).where(eq(allowances.tenant, own.name))
    expect(rows).toEqual([{ id: `${own.name}/usd` }])
  })

  it('can be read whatever its runs say that they cost', async () => {
    const own = tenant({ budget: { total_usd: 1_000 } })
    const [old, ...others] = [await own.row(), await own.row(), await own.row()]
    await log.database.db.update(runs).set({ endedAt: 1, costUsd: 1e305 }).where(eq(runs.id, old))
    expect(await own.reserve('new')).toBe(false)
    for (const run of others) expect(await own.end(run, done(1e300))).toBe(true)
    expect(await own.allowance('tenant')).toEqual({ spent: Number.MAX_SAFE_INTEGER, held: 0 })
    expect(await whatIsFull(log.database.db, own.wants('new'))).toMatchObject({ spent: Number.MAX_SAFE_INTEGER })
  })

  it('charges what a run cost, once, and frees what it held', async () => {
    const own = tenant({ budget: { total_usd: 10, token_usd: 10 }, concurrent_runs: 1 })
    await own.reserve('refused')
    await log.database.batch(releaseStatements(log.database.db, 'refused'))
    const run = await own.row()
    expect(await own.reserve(run, 2)).toBe(true)
    expect(await own.end(run, done(9), 2)).toBe(false)
    expect(await own.allowance('tenant')).toEqual({ spent: 0, held: 2_000_000 })
    expect(await own.end(run, done(0.123456))).toBe(true)
    expect(await own.end(run, done(9))).toBe(false)
    for (const kind of ['tenant', 'token'] as const) expect(await own.allowance(kind)).toEqual({ spent: 123_456, held: 0 })
    expect(await own.allowance('runs')).toEqual({ spent: 0, held: 0 })
    expect(await log.row(run)).toMatchObject({ costUsd: 0.123456, costEstimated: false })
    expect(await own.open()).toEqual([])
  })

  it('charges what was reserved where nobody knows the cost, and says so', async () => {
    const own = tenant({ budget: { total_usd: 10 } })
    const run = await own.row()
    await own.reserve(run, 2)
    expect(await own.end(run, killed)).toBe(true)
    expect(await own.allowance('tenant')).toEqual({ spent: 2_000_000, held: 0 })
    expect(await log.row(run)).toMatchObject({ state: 'failed', costUsd: 2, costEstimated: true })
    const [row] = await log.database.db.select().from(reservations).where(eq(reservations.run, run))
    expect(row).toMatchObject({ charged: 2_000_000, estimated: true, settledAt: 5 })
  })

  it.each([
    [75, 75],
    [0.5, 2],
  ])('charges the more of what is known at least, %s, and what was reserved', async (known, usd) => {
    const own = tenant({ budget: { total_usd: 100 } })
    const run = await own.row()
    await own.reserve(run, 2)
    const metered = { requests: 9, tokens: usage, cost_usd: null, known_usd: known, provider: 'a', failovers: 0 }
    expect(await own.end(run, { ...done(0.001), metered })).toBe(true)
    expect(await own.allowance('tenant')).toEqual({ spent: usd * 1_000_000, held: 0 })
    expect(await log.row(run)).toMatchObject({ state: 'succeeded', costUsd: usd, costEstimated: true })
    const free = tenant({})
    const other = await free.row()
    expect(await free.end(other, { ...done(0.001), metered })).toBe(true)
    expect(await log.row(other)).toMatchObject({ costUsd: known, costEstimated: true })
  })

  it('says nothing of the cost of a run that reserved nothing and told nothing', async () => {
    const own = tenant({})
    const run = await own.row()
    expect(await own.end(run, killed)).toBe(true)
    expect(await log.row(run)).toMatchObject({ costUsd: null, costEstimated: null })
    expect(await own.allowance('tenant')).toBeUndefined()
  })

  it('begins with what was spent before there was a budget, and counts who was under way', async () => {
    const own = tenant({})
    const [before, during] = [await own.row(), await own.row()]
    await own.end(before, done(4))
    const limits = { budget: { total_usd: 5, day_usd: 5, token_usd: 5 }, concurrent_runs: 2 }
    expect(await own.reserve('new', 2, limits)).toBe(false)
    expect(await own.reserve('new', 1, limits)).toBe(true)
    const begun = { spent: 4_000_000, held: 1_000_000 }
    for (const kind of ['tenant', 'day', 'token'] as const) expect(await own.allowance(kind)).toEqual(begun)
    expect(await own.allowance('runs')).toEqual({ spent: 0, held: 2 })
    await own.end(during, done(0.5))
    expect(await own.allowance('tenant')).toEqual({ spent: 4_500_000, held: 1_000_000 })
    expect(await own.allowance('runs')).toEqual({ spent: 0, held: 1 })
  })

  it('gives back what a refused run held, and keeps what a live one holds', async () => {
    const own = tenant({ budget: { total_usd: 10 } })
    const [refused, live] = [await own.row(), await own.row()]
    await own.reserve(refused, 1)
    await own.reserve(live, 2)
    const { database } = log
    await database.db.update(runs).set({ state: 'offered' }).where(eq(runs.id, refused))
    await dropRefused(database, refused, 1)
    await dropRefused(database, live, 1)
    await database.batch(releaseStatements(database.db, live))
    expect(await own.allowance('tenant')).toEqual({ spent: 0, held: 2_000_000 })
    expect((await own.open()).map(({ run }) => run)).toEqual([live])
  })

  it('frees what is held for a run that was never written, after ten minutes', async () => {
    const own = tenant({ budget: { total_usd: 10 } })
    const live = await own.row()
    await own.reserve(live, 1)
    await own.reserve('run_never', 1)
    await sweepLedger(log.database, NOW + 9 * 60_000)
    expect(await own.allowance('tenant')).toEqual({ spent: 0, held: 2_000_000 })
    await sweepLedger(log.database, NOW + 11 * 60_000)
    expect(await own.allowance('tenant')).toEqual({ spent: 0, held: 1_000_000 })
  })

  it('forgets days and sessions of long ago, and makes them anew from the runs when they are asked for', async () => {
    const own = tenant({ budget: { day_usd: 5, total_usd: 50 } })
    const run = await own.row()
    await own.reserve(run, 1)
    await own.end(run, done(3))
    await sweepLedger(log.database, NOW + 60 * DAY)
    expect(await own.allowance('day')).toBeUndefined()
    expect(await own.allowance('tenant')).toEqual({ spent: 3_000_000, held: 0 })
    expect(await own.reserve('late', 2)).toBe(true)
    expect(await own.allowance('day')).toEqual({ spent: 3_000_000, held: 2_000_000 })
  })

  it('is the sum of its reservations and charges after anything that can happen to runs, in any order', { timeout: 60_000 }, async () => {
    type Step = { do: 'reserve' | 'row' | 'end' | 'kill' | 'drop' | 'release'; run: number; cents: number }
    const kinds = ['reserve', 'row', 'row', 'end', 'kill', 'drop', 'release'] as const
    const step: fc.Arbitrary<Step> = fc.record({ do: fc.constantFrom(...kinds), run: fc.nat(5), cents: fc.integer({ min: 1, max: 150 }) })
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
        const own = tenant({ budget: { total_usd: 3 }, concurrent_runs: 4 })
        const { database } = log
        /** The ids of its runs, `row` once they have one. */
        const ids = Array.from({ length: 6 }, (_, i) => ({ id: `${own.name}-${i}`, row: false, reserved: false }))
        let charged = 0
        for (const { do: what, run, cents } of steps) {
          const mine = ids[run]!
          if (what === 'reserve' && !mine.reserved && !mine.row) mine.reserved = await own.reserve(mine.id, cents / 100)
          if (what === 'row' && mine.reserved && !mine.row) {
            await own.row(mine.id)
            mine.row = true
          }
          const [held] = (await own.open()).filter((r) => r.run === mine.id && r.unit === 'usd')
          if (what === 'end' && (await own.end(mine.id, done(cents / 100)))) charged += cents * 10_000
          if (what === 'kill' && (await own.end(mine.id, killed))) charged += held?.amount ?? 0
          if (what === 'drop') await dropRefused(database, mine.id, 1)
          if (what === 'release') await database.batch(releaseStatements(database.db, mine.id))
          const open = await own.open()
          const sum = (unit: string) => open.filter((r) => r.unit === unit).reduce((all, { amount }) => all + amount, 0)
          expect((await own.allowance('tenant')) ?? { spent: 0, held: 0 }).toEqual({ spent: charged, held: sum('usd') })
          expect((await own.allowance('runs')) ?? { spent: 0, held: 0 }).toEqual({ spent: 0, held: sum('run') })
          expect(sum('run')).toBeLessThanOrEqual(4)
        }
      }),
      { numRuns: 40 },
    )
  })

  it('agrees with the runs to the millionth, whatever they cost', async () => {
    const own = tenant({ budget: { total_usd: 1_000 } })
    for (let i = 0; i < 20; i++) {
      const run = await own.row()
      await own.reserve(run, 1)
      await own.end(run, done(0.1 + i / 3))
    }
    const [sum] = await log.database.db.select({ usd: sql<number>`sum(cost_usd)` }).from(runs).where(eq(runs.tenant, own.name))
    const { spent = 0 } = (await own.allowance('tenant')) ?? {}
    expect(Math.abs(spent - (sum?.usd ?? 0) * 1_000_000)).toBeLessThan(20)
  })
})
