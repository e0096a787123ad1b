import { eq } from 'drizzle-orm'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { tenants } from '../../drizzle/schema.ts'
import { identityRouter, type IdentityRouter } from '../../test/support/identity-router.ts'
import { createApp } from '../app.ts'
import { localLimiter } from '../limits/local-limiter.ts'

let router: IdentityRouter
let address = '203.0.113.7'
const clock = { now: 0 }
beforeAll(async () => {
  router = await identityRouter()
})
afterAll(() => router.close())

/** The same router behind a host that knows where requests come from. */
function hosted() {
  const limiter = localLimiter(() => clock.now)
  const platform = { ...router.deps.platform, clientIp: () => address }
  return createApp(() => ({ ...router.deps, platform, limiter, addresses }))
}
const addresses = localLimiter(() => clock.now)

const exchange = () =>
  hosted().request('http://localhost:8787/v1/runners/token', {
    method: 'POST',
    body: '{"assertion":"x"}',
    headers: { 'content-type': 'application/json' },
  })

describe('a route that takes no token', () => {
  it('is limited by the address that asks, and not by others', async () => {
    address = '203.0.113.7'
    for (let i = 0; i < 300; i++) expect((await exchange()).status).not.toBe(429)
    const refused = await exchange()
    expect([refused.status, refused.headers.get('retry-after')]).toEqual([429, '1'])
    expect(await refused.json()).toMatchObject({ code: 'rate', limit: 'address' })
    address = '203.0.113.8'
    expect((await exchange()).status).not.toBe(429)
    address = '203.0.113.7'
    clock.now += 100
    expect((await exchange()).status).not.toBe(429)
    expect((await exchange()).status).toBe(429)
  })

  it.each(['127.0.0.1', '::1', '::ffff:127.0.0.1'])('is not limited for %s, which everybody behind a proxy has', async (own) => {
    address = own
    for (let i = 0; i < 310; i++) expect((await exchange()).status).not.toBe(429)
  })
})

describe('the limits of a caller', () => {
  it('are said in answers of every kind, errors included', async () => {
    const { token } = await router.mint({ tenant: 'acme' })
    const settings = { limits: { rates: { read: { rate: 2, burst: 10 } } } }
    await router.database.db.update(tenants).set({ settings }).where(eq(tenants.id, 'acme'))
    router.deps.catalog.changed('acme')
    const app = hosted()
    const ask = (path: string) => app.request(`http://localhost:8787${path}`, { headers: { authorization: `Bearer ${token}` } })
    const said = []
    for (const path of ['/v1/runners', '/v1/runs', '/v1/runs/none', '/v1/runs?limit=0']) {
      const { status, headers } = await ask(path)
      said.push([status, headers.get('ratelimit-policy'), headers.get('ratelimit')])
    }
    const policy = '"tenant-read";q=10;w=5'
    expect(said).toEqual([
      [200, policy, '"tenant-read";r=9;t=1'],
      [200, policy, '"tenant-read";r=8;t=1'],
      [404, policy, '"tenant-read";r=7;t=2'],
      [400, policy, '"tenant-read";r=6;t=2'],
    ])
  })

  it('are not asked before it is known who calls', async () => {
    const init = { headers: { authorization: 'Bearer nobody' } }
    const { status, headers } = await hosted().request('http://localhost:8787/v1/runners', init)
    expect([status, headers.has('ratelimit')]).toEqual([401, false])
  })
})
