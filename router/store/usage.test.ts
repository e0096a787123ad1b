/** Sums over rows as they are in a database: whatever they cost, and in whatever order they came. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { runs } from '../../drizzle/schema.ts'
import { MAX_COST_USD, MAX_TOKENS } from '../../shared/amounts.ts'
import { runCounts, usageBy, usageOverview, usageSummary } from '../engine/usage.ts'
import { openDatabase } from '../node/database.ts'
import type { RunRow } from '../ports.ts'

const DAY_MS = 86_400_000
let dir: string
let store: Awaited<ReturnType<typeof openDatabase>>
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'runyard-usage-'))
  store = await openDatabase(join(dir, 'router.db'))
})
afterAll(async () => {
  await store.close()
  await rm(dir, { recursive: true, force: true })
})

let made = 0
const row = (tenant: string, more: Partial<RunRow>) => ({
  id: `run_${(++made).toString(16).padStart(32, '0')}`,
  tenant,
  subject: 's',
  token: 't',
  session: 'x',
  pool: 'default',
  state: 'succeeded' as const,
  labels: {},
  needs: {},
  priority: 5,
  queueUntil: 0,
  timeoutS: 1,
  createdAt: 0,
  endedAt: 1,
  ...more,
})
const nanos = (usd: number) => BigInt(Math.round(usd * 1e9))

describe('sums of usage', () => {
  it('are those of the rows to the last billionth, and those of their groups', async () => {
    const run = fc.record({
      costUsd: fc.option(fc.oneof(fc.double({ min: 0, max: 10, noNaN: true }), fc.double({ min: 0, max: MAX_COST_USD, noNaN: true }), fc.constantFrom(0.1, 0.2, 1e-9, 4.9e-10, MAX_COST_USD))),
      model: fc.constantFrom(null, 'opus', 'sonnet'),
      input: fc.oneof(fc.nat(), fc.constant(MAX_TOKENS)),
      day: fc.nat({ max: 3 }),
      state: fc.constantFrom('succeeded' as const, 'failed' as const, 'cancelled' as const, 'lost' as const),
    })
    let tenants = 0
    const property = fc.asyncProperty(fc.array(run, { minLength: 1, maxLength: 30 }), async (all) => {
      const tenant = `t${++tenants}`
      const usage = (input: number) => ({ input_tokens: input, output_tokens: 1, cache_creation_input_tokens: 0, cache_read_input_tokens: 0 })
      await store.db.insert(runs).values(all.map(({ input, day, ...more }) => row(tenant, { ...more, endedAt: day * DAY_MS + 5, usage: usage(input), durationMs: 2 })))
      const sum = await usageSummary({ store }, tenant)
      const usd = all.reduce((total, { costUsd }) => total + nanos(costUsd ?? 0), 0n)
      expect(sum.cost_usd).toBe(Number(usd / 1_000_000_000n) + Number(usd % 1_000_000_000n) / 1e9)
      expect(sum).toMatchObject({ runs: all.length, output_tokens: all.length, duration_ms: all.length * 2, input_tokens: all.reduce((n, { input }) => n + input, 0) })
      expect(sum.succeeded + sum.failed + sum.cancelled).toBe(all.length)
      for (const by of ['day', 'model'] as const) {
        const rows = await usageBy({ store }, tenant, by, { limit: 100 })
        expect(rows.reduce((n, { runs: some }) => n + some, 0)).toBe(all.length)
        expect(Math.abs(rows.reduce((n, { cost_usd }) => n + cost_usd, 0) - sum.cost_usd)).toBeLessThan(1e-6 * Math.max(1, sum.cost_usd))
      }
      // One look at the rows is worth as much as three.
      const overview = await usageOverview({ store }, tenant, { days: 2, models: 2 })
      const parts = (used: object) => Object.fromEntries(Object.entries(used).filter(([name]) => name !== 'sessions'))
      expect(overview.whole).toMatchObject(parts(sum))
      expect(overview.days).toMatchObject((await usageBy({ store }, tenant, 'day', { limit: 2 })).map(parts))
      expect(overview.models).toMatchObject((await usageBy({ store }, tenant, 'model', { limit: 2 })).map(parts))
      const days = [...new Set(all.map(({ day }) => day))].toSorted((a, b) => b - a)
      expect((await usageBy({ store }, tenant, 'day', { limit: 100 })).map(({ key }) => key)).toEqual(days.map((day) => `1970-01-0${day + 1}`))
      const counts = await runCounts({ store }, tenant)
      expect([counts.lost + counts.failed, counts.succeeded]).toEqual([sum.failed, sum.succeeded])
    })
    await fc.assert(property, { numRuns: 60 })
  })

  it('can still be read when a tool has lied about ten thousand runs', async () => {
    const usage = { input_tokens: MAX_TOKENS, output_tokens: 0, cache_creation_input_tokens: 0, cache_read_input_tokens: 0 }
    for (let n = 0; n < 20; n++) {
      await store.db.insert(runs).values(Array.from({ length: 500 }, () => row('liar', { costUsd: MAX_COST_USD, usage })))
    }
    const lies = { runs: 10_000, input_tokens: Number.MAX_SAFE_INTEGER, cost_usd: 10_000 * MAX_COST_USD }
    expect(await usageSummary({ store }, 'liar')).toMatchObject(lies)
    expect(await usageOverview({ store }, 'liar', { days: 1, models: 1 })).toMatchObject({ whole: lies, days: [lies], models: [lies] })
  })

  it('end where the range ends, and put the first in order first', async () => {
    const at = (endedAt: number, session: string, costUsd: number) => row('ranges', { endedAt, session, costUsd })
    await store.db.insert(runs).values([at(0, 'a', 1), at(10, 'b', 3), at(20, 'c', 2)])
    const count = async (from?: number, to?: number) => (await usageSummary({ store }, 'ranges', { from, to })).runs
    expect(await Promise.all([count(), count(0, 10), count(0, 11), count(10, 20), count(21)])).toEqual([3, 1, 2, 1, 0])
    const keys = async (more: object) => (await usageBy({ store }, 'ranges', 'session', { limit: 10, ...more })).map(({ key }) => key)
    expect(await keys({})).toEqual(['b', 'c', 'a'])
    expect(await keys({ ascending: true, limit: 2 })).toEqual(['a', 'c'])
    expect(await keys({ order: 'last_ended_at' })).toEqual(['c', 'b', 'a'])
    expect(await keys({ order: 'key', ascending: true })).toEqual(['a', 'b', 'c'])
    expect(await usageSummary({ store }, undefined, { session: 'b' })).toMatchObject({ runs: 1, last_ended_at: 10 })
  })

  it('look at no more rows than those of the range', async () => {
    const plan = await store.db.all<{ detail: string }>(`EXPLAIN QUERY PLAN SELECT count(*) FROM runs WHERE ended_at IS NOT NULL AND tenant = 'a' AND ended_at >= 1 AND ended_at < 2`)
    expect(plan.map(({ detail }) => detail).join()).toContain('runs_ended (tenant=? AND ended_at>? AND ended_at<?)')
  })
})
