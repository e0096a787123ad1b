import { eq } from 'drizzle-orm'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { providers } from '../../drizzle/schema.ts'
import { Grants } from '../../shared/grants.ts'
import { openTreasury, RUNNER, TENANT, type TreasuryRig } from '../../test/kit/treasury.ts'
import { readBindings } from '../store/bindings.ts'

let rig: TreasuryRig
beforeEach(async () => {
  rig = await openTreasury()
})
afterEach(() => rig.close())

const SESSION = '11111111-1111-4111-8111-111111111111'
const bindings = async () => Object.fromEntries((await readBindings(rig.database.db, TENANT, { limit: 100, now: rig.now })).map((b) => [b.session, b.provider]))

describe('what a run is offered to pay with', () => {
  it('is nothing of ours where the tenant has no provider: the machine uses its own login', async () => {
    expect(await rig.grants(await rig.run())).toBeUndefined()
  })

  it('is a key that only its runner can open, for this run and provider', async () => {
    await rig.provider('main', { env: { API_TIMEOUT_MS: '1000' }, prices: { '*': { input: 1, output: 2 } } })
    const d = await rig.run()
    const grants = await rig.grants(d)
    expect(Grants.parse(grants)).toEqual({
      providers: [{ provider: 'main', api: { base_url: 'https://main.example.com', sealed_key: expect.any(String) }, env: { API_TIMEOUT_MS: '1000' }, model_map: {}, prices: { '*': { input: 1, output: 2 } } }],
      headers_timeout_ms: 60_000,
      failure_threshold: 3,
      recovery_ms: 60_000,
    })
    const { key, header } = await rig.unseal(grants?.providers[0])
    expect(key).toBe('key-of-main')
    expect(header).toMatchObject({ alg: 'ECDH-ES', enc: 'A256GCM', typ: 'runyard-key', run: d.run, provider: 'main' })
  })

  it('splits 400 runs 300 to 100 by weight, and any hundred of them 75 to 25', async () => {
    await rig.provider('a', { weight: 3 })
    await rig.provider('b')
    const chosen: string[] = []
    for (let i = 0; i < 400; i++) chosen.push((await rig.line())[0]!)
    expect(chosen.filter((id) => id === 'a')).toHaveLength(300)
    for (let i = 0; i + 100 <= 400; i++) expect(chosen.slice(i, i + 100).filter((id) => id === 'a')).toHaveLength(75)
  })
})
