/** Tokens over their life: made, narrowed, revoked while something of theirs is open, and signed by keys that change. */
import { decodeProtectedHeader } from 'jose'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { admins, startFleet, type Fleet, type Json } from '../kit/fleet.ts'
import type { Host } from '../kit/host.ts'
import { RawRunner } from '../kit/raw-runner.ts'
import { readSse, SSE } from '../kit/sse.ts'
import { echo, gate } from '../kit/turns.ts'
import { until } from '../kit/wait.ts'
import { scriptedIssuer } from '../support/issuers.ts'
import { tenantEach } from './tenants.ts'

/** A revoked token is refused everywhere by then, and what it has open is closed by then. */
const REFUSED_MS = 5_000
const CLOSED_MS = 15_000

type Made = { readonly token: string; readonly jti: string }

export function tokens(host: Host): void {
  describe('a token that is revoked', () => {
    const current = tenantEach(host)
    let fleet: Fleet
    beforeEach(() => void (fleet = current()))

    const make = (wish: object = {}) => admins<Made>(fleet, 'tokens', { kind: 'app', ...wish })
    const revoke = ({ jti }: Made) => fleet.call(`/admin/v1/tokens/${jti}`, { method: 'DELETE', token: fleet.adminToken })

    it('is refused, and what it has open ends without `done` while others read on', async () => {
      const cli = gate()
      await fleet.runner({ turn: cli.turn })
      const mine = await make()
      const run = await fleet.start({ prompt: 'long' })
      await cli.running('long')
      const waiting = fleet.call('/v1/runs', { method: 'POST', token: mine.token, body: JSON.stringify({ prompt: 'waits' }) })
      await cli.running('waits')
      const stream = readSse(await fleet.call(`/v1/runs/${run.id}/events`, { token: mine.token, headers: SSE }))
      const others = readSse(await fleet.call(`/v1/runs/${run.id}/events`, { headers: SSE }))

      const revokedAt = performance.now()
      expect((await revoke(mine)).status).toBe(200)
      await until('the token to be refused', async () => (await fleet.call('/v1/runs', { token: mine.token })).status === 401, REFUSED_MS)
      const { events } = await stream
      const answer = await waiting
      expect(performance.now() - revokedAt).toBeLessThan(CLOSED_MS)
      expect(events.map(({ event }) => event)).not.toContain('done')
      expect([answer.status, await answer.json()]).toMatchObject([401, { code: 'unauthenticated', detail: expect.stringMatching(/revoked/) }])

      for (const prompt of ['long', 'waits']) await cli.finish(prompt)
      expect((await others).events.at(-1)!.event).toBe('done')
      expect(await fleet.until(run.id, 'succeeded')).toMatchObject({ id: run.id })
    }, 30_000)

    it('ends with its family, or with everything of its tenant', async () => {
      const [ci, web] = [await make({ family: 'ci' }), await make({ family: 'web' })]
      const status = async ({ token }: Made) => (await fleet.call('/v1/runs', { token })).status
      const post = (body: object) => fleet.call('/admin/v1/tokens/revoke', { method: 'POST', token: fleet.adminToken, body: JSON.stringify(body) })
      expect([await status(ci), await status(web)]).toEqual([200, 200])
      expect((await post({ family: 'ci' })).status).toBe(200)
      await until('the family to be refused', async () => (await status(ci)) === 401, REFUSED_MS)
      expect(await status(web)).toBe(200)
      expect((await post({ all: true })).status).toBe(200)
      await until('the tenant to be refused', async () => (await status(web)) === 401, REFUSED_MS)
    })
  })

  describe('a token with limits', () => {
    const current = tenantEach(host)
    let fleet: Fleet
    beforeEach(() => void (fleet = current()))

    it('runs where and with what it may, and hears by name what it may not', async () => {
      const cpu = await fleet.runner({ turn: echo })
      const gpu = await fleet.runner({ turn: echo, pool: 'gpu' })
      const limits = { pools: ['gpu'], models: ['sonnet'], permission_modes: ['plan'] }
      const { token } = await admins<Made>(fleet, 'tokens', { kind: 'app', limits })
      const post = async (body: object) => {
        const response = await fleet.call('/v1/runs', { method: 'POST', token, body: JSON.stringify({ prompt: 'x', ...body }) })
        return [response.status, (await response.json()) as Json] as const
      }
      expect(await post({})).toMatchObject([200, { status: 'succeeded', runner_id: gpu.id, model: 'sonnet' }])
      const bodies: [string, object][] = [
        ['pool', { pool: 'default' }],
        ['model', { model: 'opus' }],
        ['fallback_model', { fallback_model: 'opus' }],
        ['permission_mode', { permission_mode: 'acceptEdits' }],
        ['agents.a.permissionMode', { agents: { a: { description: 'x', prompt: 'x', permissionMode: 'default' } } }],
      ]
      for (const [field, body] of bodies) expect(await post(body), field).toMatchObject([403, { code: 'forbidden', field }])
      const elsewhere = await fleet.run({ prompt: 'x', pool: 'default' })
      const { session_id, runner_id } = (await elsewhere.json()) as Json
      expect(runner_id).toBe(cpu.id)
      expect(await post({ session_id })).toMatchObject([403, { code: 'forbidden', field: 'pool' }])
    })
  })

  describe('who is not from here', () => {
    const current = tenantEach(host)
    let fleet: Fleet
    beforeEach(() => void (fleet = current()))

    it('is let in on the word of an issuer that an operator has named, while that issuer is down too', async () => {
      const issuer = await scriptedIssuer()
      const mapping = { require: [{ claim: 'repository', is: 'acme/app' }], scopes: ['runs:read'] }
      const operator = await fleet.as('default')
      const audience = `https://${fleet.tenant}.example.com`
      await admins(operator, 'issuers', { id: fleet.tenant, url: issuer.url, audience, tenant: fleet.tenant, mapping })
      const sign = (repository: string) => {
        const now = Math.floor(Date.now() / 1_000)
        return issuer.sign({ aud: audience, sub: `repo:${repository}`, iat: now, exp: now + 60, repository })
      }
      const status = async (token: string, path = '/v1/runs') => (await fleet.call(path, { token })).status
      await until('the issuer to be trusted', async () => (await status(await sign('acme/app'))) === 200, REFUSED_MS)
      expect(await status(await sign('acme/app2'))).toBe(401)
      expect(await status(await sign('acme/app'), '/admin/v1/tokens')).toBe(403)
      await issuer.close()
      expect(await status(await sign('acme/app'))).toBe(200)
    })

    it('is let in with the key or password that he has from an older server', async () => {
      const secret = `ccs_ak_${crypto.randomUUID()}`
      const password = crypto.randomUUID()
      await admins(fleet, 'credentials', { kind: 'key', secret, subject: 'old-app', scopes: ['runs:read'] })
      await admins(fleet, 'credentials', { kind: 'basic', user: 'ann', password, subject: 'ann' })
      const status = async (headers: Record<string, string>, path = '/v1/runs') => (await fleet.call(path, { token: null, headers })).status
      const good: Record<string, string>[] = [{ 'x-api-key': secret }, { authorization: `Bearer ${secret}` }, { authorization: `Basic ${btoa(`ann:${password}`)}` }]
      for (const headers of good) expect([await status(headers), await status(headers, '/admin/v1/tokens')]).toEqual([200, 403])
      const bad: Record<string, string>[] = [{ 'x-api-key': password }, { authorization: `Basic ${btoa(`bob:${password}`)}` }]
      for (const headers of bad) expect(await status(headers)).toBe(401)
    })
  })

  describe('the keys that sign', () => {
    let fleet: Fleet
    beforeAll(async () => void (fleet = await startFleet(host, {})))
    afterAll(() => fleet.close())

    it('change under everybody: apps and runners go on, over a restart too, until the third key', async () => {
      const rotate = async (token: string) => {
        const response = await fleet.call('/admin/v1/keys/rotate', { method: 'POST', token })
        return String(((await response.json()) as Json)['kid'])
      }
      const status = async (token: string) => (await fleet.call('/v1/runs', { token })).status
      const runner = await RawRunner.enlist(fleet)
      const link = await runner.connect()
      const before = await runner.token()

      const second = await rotate(fleet.adminToken)
      const made = await until('the new key to sign', async () => {
        const token = await admins<Made>(fleet, 'tokens', { kind: 'admin' })
        return decodeProtectedHeader(token.token).kid === second && token
      })
      expect([await status(fleet.token), await status(made.token)]).toEqual([200, 200])
      link.send({ t: 'refresh', assertion: await runner.assertion() })
      const { token: renewed } = await link.next('token')
      const jwks = (await (await fleet.call('/.well-known/jwks.json', { token: null })).json()) as { keys: { kid: string }[] }
      expect(jwks.keys.map(({ kid }) => kid)).toEqual([second, fleet.host.keys.kid])

      await fleet.restart()
      expect([await status(fleet.token), await status(made.token)]).toEqual([200, 200])
      const connects = async (token: string) => (await fleet.call('/v1/runners/connect', { token })).status
      // Good tokens, and no upgrade.
      expect([await connects(before), await connects(renewed)]).toEqual([400, 400])

      const third = await rotate(made.token)
      expect(third).not.toBe(second)
      await until('the first key to be refused', async () => (await status(fleet.token)) === 401, REFUSED_MS)
      expect(await status(made.token)).toBe(200)
      expect([await connects(before), await connects(await runner.token())]).toEqual([401, 400])
    })
  })
}
