import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { identityRouter, type IdentityRouter } from '../../test/support/identity-router.ts'
import { tidy } from '../engine/housekeeping.ts'
import { applyConfig, ConfigFile } from './apply-config.ts'

const DAY = 86_400_000

let router: IdentityRouter
let operator: string
let acme: string
beforeAll(async () => {
  router = await identityRouter()
  operator = (await router.mint({ kind: 'admin', tenant: 'default' })).token
  acme = (await router.mint({ kind: 'admin', tenant: 'acme' })).token
})
afterAll(() => router.close())

const PATH = '/admin/v1/retention'
const put = (body: unknown, token = operator) => router.call(PATH, { method: 'PUT', token, body })

describe('how long sessions are kept', () => {
  it('is thirty days until an operator says otherwise, which is written down', async () => {
    expect(await router.call(PATH, { token: operator })).toMatchObject({ status: 200, body: { session_days: 30 } })
    expect(await put({ session_days: 7 })).toMatchObject({ status: 200, body: { session_days: 7 } })
    expect(await router.call(PATH, { token: operator })).toMatchObject({ body: { session_days: 7 } })
    const { body } = await router.call('/admin/v1/audit?action=retention.update', { token: operator })
    expect(body['data']).toMatchObject([{ target: 'retention', before: { session_days: 30 }, after: { session_days: 7 } }])
  })

  it('is nothing for other tenants, and nothing that cannot be', async () => {
    expect((await router.call(PATH, { token: acme })).status).toBe(403)
    expect((await put({ session_days: 1 }, acme)).status).toBe(403)
    for (const body of [{ session_days: -1 }, { session_days: 1.5 }, { session_days: '7' }, { days: 7 }, []]) expect((await put(body)).status, JSON.stringify(body)).toBe(400)
  })

  it('can be said by the config file', async () => {
    const config = ConfigFile.parse({ retention: { session_days: 3 } })
    expect(await applyConfig(router.deps, config, new Map())).toMatchObject({ changes: ['retention: changed'] })
    expect(await applyConfig(router.deps, config, new Map())).toMatchObject({ changes: [] })
    expect(await router.call(PATH, { token: operator })).toMatchObject({ body: { session_days: 3 } })
  })

  it('is what housekeeping goes by', async () => {
    await put({ session_days: 2 })
    const { token } = await router.mint()
    const { body } = await router.call('/v1/sessions', { token, body: { title: 'old' } })
    const path = `/v1/sessions/${String(body['id'])}`
    const { store } = router.deps
    await tidy(store, router.clock.now + 2 * DAY)
    expect((await router.call(path, { token })).status).toBe(200)
    await tidy(store, router.clock.now + 2 * DAY + 1)
    expect((await router.call(path, { token })).status).toBe(404)
  })
})
