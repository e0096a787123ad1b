import { sql } from 'drizzle-orm'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { openTreasury, TENANT, type TreasuryRig } from '../../test/kit/treasury.ts'

let rig: TreasuryRig
beforeEach(async () => {
  rig = await openTreasury()
})
afterEach(() => rig.close())

describe('what gateways report', () => {
  it('is summed up, with a moving average of the time to headers', async () => {
    await rig.provider('a')
    const d = await rig.run()
    await rig.grants(d)
    const tokens = { input_tokens: 1, output_tokens: 10, cache_creation_input_tokens: 2, cache_read_input_tokens: 4 }
    for (const latency of [100, 200]) rig.treasury.report(TENANT, { run: d.run, fence: 1, stage: 'end', provider: 'a', version: 1, model: 'm', outcome: 'ok', status: 200, retry_after_ms: null, latency_ms: latency, tokens })
    await rig.treasury.settled()
    const two = await rig.health('a')
    expect(two).toMatchObject({ requests: 2, failed: 0, inputTokens: 14, outputTokens: 20, state: 'closed' })
    expect(two?.latencyMs).toBeCloseTo((100 * 0.16 + 200 * 0.2) / 0.36)
    await rig.report(d, 'a', 'ok', { latency_ms: 1_000 })
    expect((await rig.health('a'))?.latencyMs).toBeCloseTo(two!.latencyMs! * 0.8 + 200)
    await rig.report(d, 'a', 'server', { latency_ms: 1 })
    expect(await rig.health('a')).toMatchObject({ requests: 4, failed: 1 })
  })

  it('is written within a second without being asked for', async () => {
    await rig.provider('a')
    const d = await rig.run()
    await rig.grants(d)
    rig.treasury.report(TENANT, { run: d.run, fence: 1, stage: 'end', provider: 'a', version: 1, model: 'm', outcome: 'ok', status: 200, retry_after_ms: null, latency_ms: 1, tokens: null })
    await expect.poll(() => rig.health('a'), { timeout: 5_000 }).toMatchObject({ requests: 1 })
  })

  it('of a provider that the run was not given, or that is not there, changes nothing', async () => {
    await rig.provider('a')
    await rig.provider('b', { enabled: false })
    const d = await rig.run()
    await rig.grants(d)
    for (const id of ['b', 'nobody']) await rig.report(d, id, 'auth')
    await rig.report(await rig.run(), 'nobody', 'ok')
    expect(await rig.database.db.all(sql`SELECT provider FROM provider_health`)).toEqual([])
  })

  it('never throws, whatever becomes of the database', async () => {
    await rig.provider('a')
    const d = await rig.run()
    await rig.grants(d)
    await rig.database.db.run(sql`DROP TABLE provider_health`)
    rig.now += 10_000
    for (const outcome of ['ok', 'server', 'auth'] as const) await rig.report(d, 'a', outcome)
    expect(rig.logged.join()).toContain('a report about a provider was lost')
  })
})
