import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { eq } from 'drizzle-orm'
import { providers } from '../../drizzle/schema.ts'
import { openTreasury, TENANT, type TreasuryRig } from '../../test/kit/treasury.ts'
import { catalogMemory, catalogOf, FRESH_MS } from './catalog.ts'

let rig: TreasuryRig
beforeEach(async () => {
  rig = await openTreasury()
})
afterEach(() => rig.close())

describe('what is known of tenants', () => {
  const weigh = (weight: number) => rig.database.db.update(providers).set({ weight }).where(eq(providers.id, 'a'))

  it('is read again when it was changed, and only of who was changed', async () => {
    await rig.provider('a')
    let now = 0
    const catalog = catalogOf(rig.database.db, catalogMemory(), () => now)
    const weight = async () => (await catalog.providers(TENANT))[0]?.weight
    expect(await weight()).toBe(1)
    await weigh(2)
    catalog.changed('other')
    catalog.changed(TENANT, 'health')
    expect(await weight()).toBe(1)
    catalog.changed(TENANT)
    expect(await weight()).toBe(2)
    await weigh(3)
    now += FRESH_MS
    expect(await weight()).toBe(3)
  })

  it('is not kept when it was changed while it was being read, but when somebody else was', async () => {
    await rig.provider('a')
    const memory = catalogMemory()
    const catalog = catalogOf(rig.database.db, memory, () => 0)
    const reading = catalog.providers(TENANT)
    catalog.changed(TENANT)
    await reading
    expect(memory.providers.has(TENANT)).toBe(false)
    const again = catalog.providers(TENANT)
    for (let i = 0; i < 20_000; i++) catalog.changed(`t${i}`)
    await again
    expect(memory.changes.size).toBeLessThanOrEqual(10_000)
    const last = catalog.providers(TENANT)
    catalog.changed('other')
    await last
    expect(memory.providers.has(TENANT)).toBe(true)
  })
})
