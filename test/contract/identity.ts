/** Who may do what: at the door of the host, and between tenants. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { SignJWT, UnsecuredJWT, type JWTPayload } from 'jose'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { generateSigningJwk, importKeys } from '../../router/guard/keys.ts'
import { enroll } from '../../runner/enroll.ts'
import { admins, startFleet, type Fleet, type Json, type RunView } from '../kit/fleet.ts'
import type { Host } from '../kit/host.ts'
import { rawHttp, readAnswer } from '../kit/raw-http.ts'
import { RawRunner } from '../kit/raw-runner.ts'
import { readSse } from '../kit/sse.ts'
import { gate, type Gate } from '../kit/turns.ts'

const APP_TYP = 'runyard-app+jwt'
const PAGE = 'https://app.example.com'

export function identity(host: Host): void {
  describe('at the door', () => {
    let fleet: Fleet
    beforeAll(async () => void (fleet = await startFleet(host, { allowedHosts: ['runs.example.com'], corsOrigins: [PAGE] })))
    afterAll(() => fleet.close())

    const claims = (more: JWTPayload = {}): JWTPayload => {
      const now = Math.floor(Date.now() / 1_000)
      const { issuer: iss } = fleet.host.keys
      const who = { sub: 'test', jti: crypto.randomUUID(), tenant: 'default', scope: 'runs:read' }
      return { iss, aud: 'runyard:app', iat: now, exp: now + 60, ...who, ...more }
    }
    const signed = (more: JWTPayload = {}, typ = APP_TYP) => fleet.host.keys.sign(typ, claims(more))
    const verdict = async (token: string | null, path = '/v1/runs', method = 'GET') => {
      const response = await fleet.call(path, { token, method, ...(method === 'POST' ? { body: '{}' } : {}) })
      const { code } = (await response.json()) as { code?: string }
      return [response.status, code]
    }

    it('a token of ours opens what its scopes say, by whichever header it comes', async () => {
      const token = await signed()
      expect(await verdict(token)).toEqual([200, undefined])
      for (const [name, value] of [['x-api-key', token], ['authorization', `Basic ${btoa(`me:${token}`)}`]] as const) {
        expect((await fleet.call('/v1/runs', { token: null, headers: { [name]: value } })).status, name).toBe(200)
      }
      expect(await verdict(token, '/v1/runs', 'POST')).toEqual([403, 'forbidden'])
    })

    it('no token, or something that is none, is a 401 that says how', async () => {
      for (const token of [null, 'garbage', 'a.b.c', 'x'.repeat(10_000)]) {
        expect(await verdict(token)).toEqual([401, 'unauthenticated'])
      }
      const response = await fleet.call('/v1/runs', { token: null })
      expect(response.headers.get('www-authenticate')).toMatch(/^Bearer /)
    })

    it('a token that is expired, early, or says what it may not is refused', async () => {
      const now = Math.floor(Date.now() / 1_000)
      const bad: [string, string][] = [
        ['expired', await signed({ iat: now - 120, exp: now - 60 })],
        ['from the future', await signed({ iat: now + 300, exp: now + 600 })],
        ['of another audience', await signed({ aud: 'runyard:admin' })],
        ['of another kind than its audience', await signed({}, 'runyard-admin+jwt')],
        ['of no kind', await signed({}, 'JWT')],
        ['without an end', await fleet.host.keys.sign(APP_TYP, { ...claims(), exp: undefined })],
        ['without a tenant', await signed({ tenant: undefined })],
        ['of a tenant that is a path', await signed({ tenant: '../default' })],
      ]
      for (const [what, token] of bad) expect(await verdict(token), what).toEqual([401, 'unauthenticated'])
      expect(await verdict(await signed({ iat: now - 90, exp: now - 10 })), 'within the skew of clocks').toEqual([200, undefined])
    })

    it('a token that somebody else signed is refused, whatever it says of itself', async () => {
      const { issuer, kid } = fleet.host.keys
      const jwk = await generateSigningJwk()
      const foreign = await importKeys(jwk, 'https://elsewhere.test')
      const pretending = await importKeys(jwk, issuer)
      const header = { alg: 'EdDSA', typ: APP_TYP, kid }
      const symmetric = { ...header, alg: 'HS256' }
      const publicKey = Buffer.from(fleet.host.keys.jwks.keys[0]!.x)
      const acme = Buffer.from(JSON.stringify(claims({ tenant: 'acme' }))).toString('base64url')
      const bad: [string, string][] = [
        ['a foreign issuer', await foreign.sign(APP_TYP, claims())],
        ['our issuer, their key', await pretending.sign(APP_TYP, claims())],
        ['our key id, their key', await new SignJWT(claims()).setProtectedHeader(header).sign(jwk)],
        ['no signature', new UnsecuredJWT(claims()).encode()],
        ['our public key as a secret', await new SignJWT(claims()).setProtectedHeader(symmetric).sign(publicKey)],
        ['a changed claim', (await signed()).replace(/\.[^.]+\./, `.${acme}.`)],
      ]
      for (const [what, token] of bad) expect(await verdict(token), what).toEqual([401, 'unauthenticated'])
    })

    it('an app does not get to admin routes, and neither gets to where runners dial in', async () => {
      const runner = await RawRunner.enlist(fleet)
      const runnerToken = await runner.token()
      const all = await signed({ scope: 'runs:read runs:write admin' })
      expect(await verdict(all, '/admin/v1/tokens', 'POST')).toEqual([403, 'forbidden'])
      expect(await verdict(runnerToken, '/admin/v1/tokens', 'POST')).toEqual([403, 'forbidden'])
      expect(await verdict(runnerToken)).toEqual([403, 'forbidden'])
      for (const token of [fleet.token, fleet.adminToken]) {
        expect(await verdict(token, '/v1/runners/connect')).toEqual([403, 'forbidden'])
      }
      expect(await verdict(fleet.adminToken)).toEqual([200, undefined])
    })

    it('an enrolment token is good once, and a proof of identity too', async () => {
      const { token } = await admins<{ token: string }>(fleet, 'enrolment-tokens', {})
      const dir = await mkdtemp(join(tmpdir(), 'runyard-enrol-'))
      const enrol = (name: string) => enroll({ url: fleet.url, token, name, labels: {}, stateDir: join(dir, name) })
      expect(await enrol('first')).toMatchObject({ tenant: 'default', pool: 'default', name: 'first' })
      await expect(enrol('second')).rejects.toMatchObject({ problem: 'refused' })
      await rm(dir, { recursive: true })
      const runner = await RawRunner.enlist(fleet)
      const assertion = await runner.assertion()
      const trade = async (given: string) => {
        const body = JSON.stringify({ assertion: given })
        return (await fleet.call('/v1/runners/token', { method: 'POST', token: null, body })).status
      }
      expect([await trade(assertion), await trade(assertion), await trade('garbage')]).toEqual([200, 401, 401])
      expect(await trade(await runner.assertion('https://elsewhere.test/v1/runners/token'))).toBe(401)
    })

    it('a token in a URL is refused before anything else looks at it', async () => {
      for (const query of [`token=${fleet.token}`, 'access_token=x', `q=${fleet.token}`]) {
        expect(await verdict(fleet.token, `/v1/runs?${query}`)).toEqual([400, 'token_in_query'])
      }
    })

    it('a host name or a web page that is not on the list is refused on every route', async () => {
      const { port } = new URL(fleet.url)
      const ask = async (name: string, path: string, ...more: string[]) => {
        const lines = [`GET ${path} HTTP/1.1`, `Host: ${name}`, 'Connection: close', ...more]
        const { status, body } = readAnswer(await rawHttp(fleet.url, lines))
        return [status, body['code']]
      }
      for (const name of ['localhost', `127.0.0.1:${port}`, 'runs.example.com', 'RUNS.example.com:8443']) {
        expect(await ask(name, '/healthz'), name).toEqual([200, undefined])
      }
      for (const path of ['/healthz', '/v1/runs', '/admin/v1/tokens', '/v1/runners/connect', '/nothing']) {
        for (const name of ['evil.com', 'localhost.evil.com', 'example.com']) {
          expect(await ask(name, path), name + path).toEqual([403, 'host'])
        }
        expect(await ask('localhost', path, 'Origin: https://evil.com'), path).toEqual([403, 'origin'])
      }
      const runner = await RawRunner.enlist(fleet)
      const upgrade = ['Upgrade: websocket', `Authorization: Bearer ${await runner.token()}`, `Origin: http://localhost:${port}`]
      expect(await ask(`localhost:${port}`, '/v1/runners/connect', ...upgrade)).toEqual([403, 'origin'])
    })

    it('a web page on the list may call, and hears our errors', async () => {
      const wish = { 'access-control-request-method': 'POST', 'access-control-request-headers': 'authorization' }
      const preflight = { origin: PAGE, ...wish }
      const allowed = await fleet.call('/v1/runs', { method: 'OPTIONS', token: null, headers: preflight })
      expect([allowed.status, allowed.headers.get('access-control-allow-origin')]).toEqual([204, PAGE])
      const refused = await fleet.call('/v1/runs', { token: null, headers: { origin: PAGE } })
      expect([refused.status, refused.headers.get('access-control-allow-origin')]).toEqual([401, PAGE])
    })
  })

  describe('what belongs to somebody else', () => {
    let fleet: Fleet
    let theirs: Fleet
    let cli: Gate
    let run: RunView
    beforeAll(async () => {
      fleet = await startFleet(host, {})
      theirs = await fleet.as('theirs')
      cli = gate()
      await theirs.runner({ turn: cli.turn })
      run = await theirs.start({ prompt: 'private', metadata: { secret: 'yes' } })
      await cli.running('private')
    })
    afterAll(() => fleet.close())

    it('cannot be told from what is not there', async () => {
      const forged = `${run.id.slice(0, -4)}${run.id.endsWith('0000') ? '1111' : '0000'}`
      for (const [path, method] of [['', 'GET'], ['/events', 'GET'], ['/cancel', 'POST']] as const) {
        const [foreign, unknown] = await Promise.all(
          [run.id, forged].map(async (id) => {
            const response = await fleet.call(`/v1/runs/${id}${path}`, { method })
            const text = (await response.text()).replaceAll(id, 'ID')
            return [response.status, { ...(JSON.parse(text) as Json), request_id: '' }]
          }),
        )
        expect(foreign).toEqual(unknown)
        expect(foreign).toMatchObject([404, { code: 'run_not_found' }])
      }
      expect((await theirs.get(run.id)).status).toBe('running')
    })

    it('is in no list', async () => {
      expect(await fleet.list()).toEqual([])
      expect(await fleet.list(`?session_id=${run.session_id}`)).toEqual([])
      expect(await fleet.runners()).toEqual([])
      expect(await theirs.runners()).toHaveLength(1)
    })

    it('runs nothing of ours', async () => {
      const response = await fleet.run({ prompt: 'x', queue_timeout_s: 0 })
      expect([response.status, await response.json()]).toMatchObject([503, { code: 'no_runner' }])
      const continued = await fleet.run({ prompt: 'x', session_id: run.session_id, queue_timeout_s: 0 })
      expect([continued.status, await continued.json()]).toMatchObject([404, { code: 'session_not_found' }])
    })

    it('goes on as if nobody had asked', async () => {
      await cli.finish('private')
      expect(await theirs.until(run.id, 'succeeded')).toMatchObject({ metadata: { secret: 'yes' } })
      const { events } = await readSse(await theirs.call(`/v1/runs/${run.id}/events`))
      expect(events.at(-1)!.event).toBe('done')
      expect(cli.order).toEqual(['private'])
    })
  })
}
