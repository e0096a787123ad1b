import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { identityRouter, type Answer, type IdentityRouter } from '../../test/support/identity-router.ts'
import { DEFAULT_COMPAT } from '../../shared/compat-settings.ts'

let router: IdentityRouter
let operator: string
beforeAll(async () => {
  router = await identityRouter()
  operator = (await router.mint({ kind: 'admin', tenant: 'default' })).token
})
afterAll(() => router.close())

const call = (body?: unknown, token = operator): Promise<Answer> =>
  router.call('/admin/v1/compat', { token, body, method: body === undefined ? 'GET' : 'PUT' })
const changes = async () => {
  const { body } = await router.call('/admin/v1/audit?action=compat.update', { token: operator })
  return body['data'] as { actor: string; before: unknown; after: unknown }[]
}

describe('the settings of the dialects', () => {
  it('are the defaults until somebody sets them', async () => {
    expect((await call()).body).toEqual(DEFAULT_COMPAT)
    expect(await changes()).toEqual([])
  })

  it('are replaced as a whole, with a row of the audit, and only by what changes something', async () => {
    const wish = { ccs: { default_model: 'opus', max_budget_usd: 3 }, claude_code_server: { timeout_s: 60 } }
    const { status, body } = await call(wish)
    const after = {
      ...DEFAULT_COMPAT,
      ccs: { ...DEFAULT_COMPAT.ccs, default_model: 'opus', max_budget_usd: 3 },
      claude_code_server: { enabled: true, queue_timeout_s: 30, timeout_s: 60 },
    }
    expect([status, body]).toEqual([200, after])
    await call(wish)
    expect(await changes()).toMatchObject([{ actor: 'test', before: DEFAULT_COMPAT, after }])
    expect((await call({})).body).toEqual(DEFAULT_COMPAT)
    expect(await changes()).toHaveLength(2)
  })

  it('are felt at once, by paths that are not there any more', async () => {
    const ask = () => router.call('/chat', { method: 'POST', body: {} })
    expect((await ask()).status).toBe(401)
    await call({ claudecode2api: { enabled: false } })
    const off = await ask()
    expect([off.status, off.body]).toMatchObject([404, { code: 'not_found' }])
    await call({})
    expect((await ask()).status).toBe(401)
  })

  it('are refused where they mean nothing, by the name of the field', async () => {
    const problem = async (body: unknown) => (await call(body)).body
    expect(await problem({ ccs: { colour: 'red' } })).toMatchObject({ status: 400, field: 'ccs.colour' })
    expect(await problem({ openai: {} })).toMatchObject({ status: 400, field: 'openai' })
    expect(await problem({ claude_code_api: { anonymous: { tenant: '../x' } } })).toMatchObject({ status: 400, field: 'claude_code_api.anonymous.tenant' })
    expect(await problem({ claude_code_api: { anonymous: { tenant: 'nowhere' } } })).toMatchObject({ status: 404, field: 'claude_code_api.anonymous.tenant' })
    expect(await problem({ claude_code_api: { anonymous: { tenant: 'default', narrowing: { scopes: ['admin'] } } } })).toMatchObject({ status: 400 })
  })

  it('are for operators', async () => {
    const acme = (await router.mint({ kind: 'admin', tenant: 'acme' })).token
    expect([(await call(undefined, acme)).status, (await call({}, acme)).status]).toEqual([403, 403])
  })
})
