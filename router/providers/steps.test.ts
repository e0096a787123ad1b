import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { MAX_MODELS } from '../store/provider-health.ts'
import { openTreasury, TENANT, type TreasuryRig } from '../../test/kit/treasury.ts'
import type { Outcome, ProviderReport } from '../../shared/grants.ts'
import type { Dispatch } from '../ports.ts'

let rig: TreasuryRig
/** What was written, and how many turns of the event loop there had been by then. */
let written: { statements: number; turn: number }[]
let turn = 0
let turning: ReturnType<typeof setInterval>

beforeEach(async () => {
  rig = await openTreasury()
  written = []
  turning = setInterval(() => void turn++, 1)
  const batch = rig.database.batch.bind(rig.database)
  Object.assign(rig.database, {
    batch: (statements: Parameters<typeof batch>[0]) => {
      written.push({ statements: statements.length, turn })
      return batch(statements)
    },
  })
})
afterEach(() => {
  clearInterval(turning)
  return rig.close()
})

const report = (d: Dispatch, outcome: Outcome, more: Partial<ProviderReport> = {}) =>
  rig.treasury.report(TENANT, {
    run: d.run,
    fence: 1,
    stage: 'end',
    provider: 'a',
    version: 1,
    model: 'm',
    outcome,
    status: 404,
    retry_after_ms: null,
    latency_ms: null,
    tokens: null,
    ...more,
  })

describe('a flood of reports', () => {
  it.each<[Outcome, number]>([
    ['not_found', 300],
    ['overloaded', 4],
    ['auth', 4],
    ['ok', 4],
  ])('of the outcome %s gives everything else its turn, and costs few writes', async (outcome, most) => {
    await rig.provider('a')
    const offers = await Promise.all(Array.from({ length: 50 }, () => rig.run()))
    for (const d of offers) await rig.grants(d)
    written = []
    for (let i = 0; i < 1_000; i++) report(offers[i % 50]!, outcome, { model: `m${i}` })
    await rig.treasury.settled()
    expect(written.reduce((sum, { statements }) => sum + statements, 0)).toBeLessThanOrEqual(most)
    const turns = written.slice(0, -1).map((write) => write.turn)
    expect(new Set(turns).size).toBe(turns.length)
    expect(await rig.health('a')).toMatchObject({ requests: 1_000, failed: outcome === 'ok' ? 0 : 1_000 })
  })

  it('of one run is heard no more than a breaker needs, and counted all the same', async () => {
    await rig.provider('a')
    const d = await rig.run()
    await rig.grants(d)
    await rig.routing({ failure_threshold: 100 })
    for (let i = 0; i < 99; i++) report(d, 'server')
    for (let i = 0; i < 500; i++) report(d, i % 2 ? 'ok' : 'auth')
    await rig.treasury.settled()
    expect(await rig.health('a')).toMatchObject({ requests: 599, state: 'open' })
    rig.now += 1_000
    await rig.report(d, 'a', 'server')
    expect(await rig.health('a')).toMatchObject({ requests: 600 })
  })

  it('for models that nobody has heard of ends where no more of them are remembered', async () => {
    await rig.provider('a')
    const d = await rig.run()
    await rig.grants(d)
    for (let i = 0; i < 100; i++) report(d, 'not_found', { model: `m${i}` })
    await rig.treasury.settled()
    written = []
    rig.now += 1_000
    for (let i = 0; i < 100; i++) report(d, 'not_found', { model: `n${i}` })
    await rig.treasury.settled()
    expect(written).toHaveLength(1)
    expect((await rig.healthRows()).filter(({ model }) => model !== '')).toHaveLength(MAX_MODELS)
  })
})

describe('reports in one page', () => {
  it('are taken in their order: failures before a success are no row with those behind it', async () => {
    await rig.provider('a')
    const d = await rig.run()
    await rig.grants(d)
    for (const outcome of ['server', 'server', 'ok', 'server', 'server'] as const) report(d, outcome)
    await rig.treasury.settled()
    expect(await rig.health('a')).toMatchObject({ state: 'closed', failures: 2 })
    report(d, 'server')
    await rig.treasury.settled()
    expect(await rig.health('a')).toMatchObject({ state: 'open', failures: 3 })
  })

  it('that ask for more time get it, and a key that was refused is for an admin whatever else is said', async () => {
    await rig.provider('a')
    const d = await rig.run()
    await rig.grants(d)
    for (const ms of [5_000, 30_000, 10_000]) report(d, 'rate_limited', { retry_after_ms: ms })
    await rig.treasury.settled()
    expect(await rig.health('a')).toMatchObject({ state: 'open', openUntil: rig.now + 30_000 })
    report(d, 'auth')
    report(d, 'rate_limited', { retry_after_ms: 60_000 })
    await rig.treasury.settled()
    expect(await rig.health('a')).toMatchObject({ state: 'open', openUntil: null })
  })
})
