import { sql } from 'drizzle-orm'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { openLog, type LogRig } from '../../test/kit/log.ts'
import { claimDue, newTurns, nextDue, tenantsWithWork, type Look, type Turns } from './delivery-turns.ts'

const NOW = 1_000_000
const UNTIL = NOW + 30_000
const ROOM = { free: 32, perTenant: 16, perHost: 8 }

describe('whose messages are next', () => {
  let log: LogRig
  let turns: Turns
  let count = 0
  beforeEach(async () => {
    log = await openLog()
    turns = newTurns()
  })
  afterEach(() => log.close())

  /** `n` of them; `%` in an origin stands for the number of each. */
  async function wait(tenant: string, origin: string, n: number, nextAt = NOW): Promise<void> {
    const its = sql`replace(${origin}, '%', printf('%05d', i))`
    await log.database.db.run(sql`
      WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < ${n})
      INSERT INTO deliveries (id, tenant, webhook, event, url, origin, format, body, state, attempts, next_at, created_at)
      SELECT ${`msg_${++count}_`} || i, ${tenant}, 'whk', 'run.succeeded', ${its} || '/', ${its}, 'standard', ${'x'.repeat(500)}, 'pending', 0, ${nextAt}, 0 FROM c`)
  }
  const look = (now = NOW, tenant?: string): Promise<Look> => claimDue(log.database.db, now, now + 30_000, ROOM, turns, tenant)
  const origins = ({ claimed }: Look) => claimed.map(({ tenant, origin }) => `${tenant} ${origin}`)
  function tally(names: readonly string[]): Record<string, number> {
    const counts: Record<string, number> = {}
    for (const name of names) counts[name] = (counts[name] ?? 0) + 1
    return counts
  }
  /** Milliseconds of the fastest of some. */
  async function fastest(work: () => Promise<unknown>): Promise<number> {
    let least = Infinity
    for (let n = 0; n < 7; n++) {
      const begun = performance.now()
      await work()
      least = Math.min(least, performance.now() - begun)
    }
    return least
  }

  it('are as many of each receiver and each tenant as there is room for, over all who claim', async () => {
    await wait('a', 'https://one', 100)
    await wait('a', 'https://two', 100)
    await wait('a', 'https://three', 100)
    await wait('b', 'https://one', 3)
    const first = await look()
    expect(tally(first.claimed.map(({ tenant }) => tenant))).toEqual({ a: 16, b: 3 })
    expect(Math.max(...Object.values(tally(origins(first))))).toBeLessThanOrEqual(8)
    expect((await look()).claimed).toEqual([])
    // A claim that nobody has recorded ends by itself.
    expect((await look(UNTIL)).claimed.filter(({ tenant }) => tenant === 'b').map(({ attempts }) => attempts)).toEqual([2, 2, 2])
  })

  it('cost the same to find before a hundred thousand of one receiver as before a thousand', async () => {
    await wait('slow', 'http://slow:80', 1_000)
    await look()
    const few = await fastest(() => look())
    await wait('slow', 'http://slow:80', 99_000, NOW - 1)
    await wait('last', 'http://fine', 3)
    expect(origins(await look())).toEqual(['last http://fine', 'last http://fine', 'last http://fine'])
    const many = await fastest(() => look())
    // A look at every row of them took 600 ms and more.
    expect(many).toBeLessThan(few * 5 + 5)
    expect(await fastest(() => nextDue(log.database.db, 'last'))).toBeLessThan(5)
    expect(await fastest(() => tenantsWithWork(log.database.db, NOW))).toBeLessThan(5)
    const begun = performance.now()
    expect((await look(UNTIL + 1)).claimed).toHaveLength(8 + 3)
    // It cannot be tried twice, and the machine may be busy: half of what that took.
    expect(performance.now() - begun).toBeLessThan(300)
  })

  it('are found behind any number of receivers that are not due, a part of them at a time', async () => {
    await wait('a', 'http://%.later', 200, NOW + 1)
    await wait('a', 'http://x', 1)
    const looks: Look[] = []
    while (!looks.some(({ claimed }) => claimed.length > 0) && looks.length < 10) looks.push(await look())
    expect(looks.map(({ claimed, isWhole }) => [claimed.length, isWhole])).toEqual([[0, false], [0, false], [0, false], [1, false]])
    expect(turns.origins.size).toBe(0)
  })

  it('are of every tenant in its turn, however many there are', async () => {
    for (let n = 0; n < 100; n++) await wait(`t${String(n).padStart(3, '0')}`, 'http://x', 20)
    const seen = new Set<string>()
    for (let n = 0; n < 10 && seen.size < 100; n++) for (const { tenant } of (await look()).claimed) seen.add(tenant)
    expect(seen.size).toBe(100)
    expect(await tenantsWithWork(log.database.db, NOW)).toHaveLength(100)
  })

  it('are of one tenant only for who looks after one', async () => {
    await wait('a', 'http://x', 2)
    await wait('b', 'http://x', 2)
    expect(origins(await look(NOW, 'b'))).toEqual(['b http://x', 'b http://x'])
    expect([await nextDue(log.database.db), await nextDue(log.database.db, 'b'), await nextDue(log.database.db, 'c')]).toEqual([NOW, UNTIL, undefined])
  })
})
