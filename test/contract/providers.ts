/**
 * How runs are given to providers: shares, sessions, breakers, restarts. The runner is played by hand, so that what its
 * gateway says of a provider is what a test wants; the real gateway and CLI are in test/e2e/providers.ts.
 */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { compactDecrypt, importJWK } from 'jose'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { Offer } from '../../shared/frames.ts'
import { SEALED_KEY_TYP, type ProviderReport } from '../../shared/grants.ts'
import { startFleet, type Fleet, type Json } from '../kit/fleet.ts'
import type { Host } from '../kit/host.ts'
import { RawRunner, type RawLink } from '../kit/raw-runner.ts'
import { until } from '../kit/wait.ts'

const KEYS = { big: 'sk-big-0123456789', small: 'sk-small-0123456789' }
const RECOVERY_S = 3

export function providers(host: Host): void {
  describe('providers', () => {
    let fleet: Fleet
    let theirs: Fleet
    let runner: RawRunner
    let link: RawLink
    let tenants = 0

    beforeAll(async () => void (fleet = await startFleet(host, {})))
    afterAll(() => fleet.close())
    beforeEach(async () => {
      theirs = await fleet.as(`payers${++tenants}`)
      await admin('PUT', '/routing', { failure_threshold: 2, recovery_s: RECOVERY_S })
      for (const [id, weight] of [['big', 3], ['small', 1]] as const) {
        await admin('POST', '/providers', { id, base_url: `https://${id}.example.com`, api_key: KEYS[id], weight, env: { ANTHROPIC_MODEL: 'm' } })
      }
      runner = await RawRunner.enlist(theirs)
      link = await runner.connect({ slots: 64 })
    })

    async function admin(method: string, path: string, body?: Json): Promise<Json> {
      const init = { method, token: theirs.adminToken, ...(body === undefined ? {} : { body: JSON.stringify(body) }) }
      const response = await theirs.call(`/admin/v1${path}`, init)
      const text = await response.text()
      if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`)
      return text === '' ? {} : (JSON.parse(text) as Json)
    }
    const health = (id: string) => admin('GET', `/providers/${id}/health`)
    const untilState = (id: string, state: string) => until(`${id} to be ${state}`, async () => (await health(id))['state'] === state)

    /** One run from its offer to its end; what the gateway says of its requests is `reports`. */
    async function run(body: Json = {}, reports: (offer: Offer) => Partial<ProviderReport>[] = () => [{}]): Promise<Offer> {
      const [offer] = await begin(1, body)
      return finish(offer!, reports)
    }
    /** So many at once; all of them are running when it resolves. */
    async function begin(n: number, body: Json = {}): Promise<Offer[]> {
      const started = Array.from({ length: n }, () => theirs.start({ prompt: 'x', ...body }))
      const offers: Offer[] = []
      for (const _ of started) offers.push(await link.begin())
      await Promise.all(started)
      return offers
    }
    const sessionOf = (offer: Offer) => offer.spec.session.id
    function finish(offer: Offer, reports: (offer: Offer) => Partial<ProviderReport>[] = () => [{}]): Offer {
      const tokens = { input_tokens: 5, output_tokens: 7, cache_creation_input_tokens: 0, cache_read_input_tokens: 0 }
      for (const report of reports(offer)) {
        const base = { run: offer.run, fence: offer.fence, stage: 'end' as const, provider: chosen(offer), version: 1, model: 'm', outcome: 'ok' as const }
        const message = { t: 'provider' as const, ...base, status: 200, retry_after_ms: null, latency_ms: 12, tokens, ...report }
        if (message.outcome === 'ok') link.send({ ...message, stage: 'headers', tokens: null })
        link.send(message)
      }
      link.exit(offer, 2)
      return offer
    }
    const chosen = (offer: Offer) => offer.grants!.providers[0]!.provider
    const failing = (provider: string, more: Partial<ProviderReport> = {}) => (offer: Offer) =>
      chosen(offer) === provider ? [{ outcome: 'overloaded' as const, status: 529, tokens: null, ...more }, { provider: 'small' }] : [{}]

    it('are shared out by weight: of any hundred runs 75 and 25, within one', async () => {
      const turns: string[] = []
      // Of runs that are asked for at once nobody knows whose offer arrives first, so a hundred are five whole batches.
      for (let batch = 0; batch < 20; batch++) {
        for (const offer of await begin(20)) turns.push(chosen(finish(offer)))
        await until('their slots to be free', async () => (await theirs.runners())[0]?.busy === 0)
      }
      expect(turns).toHaveLength(400)
      for (let from = 0; from + 100 <= turns.length; from += 20) {
        const small = turns.slice(from, from + 100).filter((id) => id === 'small').length
        expect(Math.abs(small - 25)).toBeLessThanOrEqual(1)
      }
      expect(turns.filter((id) => id === 'small')).toHaveLength(100)
      // Ten seconds on a quiet machine.
    }, 120_000)

    it('come with their key sealed to this runner and this run, and with the one that may stand in', async () => {
      const offer = await run()
      const { api } = offer.grants!.providers[0]!
      const jwk = JSON.parse(await readFile(join(runner.stateDir, 'sealing.jwk'), 'utf8')) as Record<string, unknown>
      const { plaintext, protectedHeader } = await compactDecrypt(api!.sealed_key, await importJWK(jwk, 'ECDH-ES'))
      const id = chosen(offer) as keyof typeof KEYS
      expect(new TextDecoder().decode(plaintext)).toBe(KEYS[id])
      expect(protectedHeader).toMatchObject({ alg: 'ECDH-ES', enc: 'A256GCM', typ: SEALED_KEY_TYP, run: offer.run, provider: id })
      expect(api!.base_url).toBe(`https://${id}.example.com`)
      expect(offer.grants!.providers.map(({ provider }) => provider).toSorted()).toEqual(['big', 'small'])
      expect(JSON.stringify(offer)).not.toContain(KEYS[id])
    })

    it('stay with a session while they are well, and where it was moved to when they are not', async () => {
      const first = await run()
      const session = sessionOf(first)
      await theirs.until(first.run, 'succeeded')
      for (let turn = 0; turn < 5; turn++) expect(chosen(await run({ session_id: session }))).toBe(chosen(first))
      const [home, other] = chosen(first) === 'big' ? ['big', 'small'] : ['small', 'big']
      await run({ session_id: session }, () => [{ provider: home, outcome: 'auth', status: 401, tokens: null }, { provider: other }])
      await untilState(home, 'open')
      expect(chosen(await run({ session_id: session }))).toBe(other)
      await admin('POST', `/providers/${home}/reset`)
      expect(chosen(await run({ session_id: session }))).toBe(other)
      const { data } = (await admin('GET', '/bindings')) as { data: Json[] }
      expect(data).toContainEqual(expect.objectContaining({ session_id: session, provider: other }))
    })

    it('are passed by after the threshold, tried again by one run of many, and trusted after its success', async () => {
      for (let tries = 0; (await health('big'))['state'] === 'closed'; tries++) {
        if (tries > 12) throw new Error('the breaker never opened')
        await run({}, failing('big'))
      }
      expect(await health('big')).toMatchObject({ state: 'open', consecutive_failures: 2 })
      for (let n = 0; n < 3; n++) expect(chosen(await run())).toBe('small')
      await new Promise((resolve) => setTimeout(resolve, 1_100 * RECOVERY_S))
      const offers = await begin(12)
      expect(offers.filter((offer) => chosen(offer) === 'big')).toHaveLength(1)
      expect(await health('big')).toMatchObject({ state: 'half_open' })
      for (const offer of offers) finish(offer)
      await untilState('big', 'closed')
      expect((await begin(4)).map((offer) => chosen(finish(offer))).filter((id) => id === 'big')).toHaveLength(3)
    })

    it.each([
      ['a mistake of the caller', { outcome: 'caller', status: 400 }],
      ['a cancel', { outcome: 'cancelled', status: null }],
    ] as const)('are not blamed for %s', async (_what, blame) => {
      for (let n = 0; n < 6; n++) await run({}, () => [{ ...blame, tokens: null }])
      await run()
      for (const id of ['big', 'small']) expect(await health(id)).toMatchObject({ state: 'closed', consecutive_failures: 0 })
    })

    it('are passed by for one model only when they do not have it', async () => {
      await admin('PUT', '/routing', { recovery_s: 600 })
      const first = await run({ model: 'gone' }, (offer) => [{ provider: chosen(offer), model: 'gone', outcome: 'not_found', status: 404, tokens: null }])
      const lacking = chosen(first)
      await until('the word of it', async () => JSON.stringify(await health(lacking)).includes('gone'))
      for (let n = 0; n < 4; n++) expect(chosen(await run({ model: 'gone' }))).not.toBe(lacking)
      const others: string[] = []
      for (let n = 0; n < 8; n++) others.push(chosen(await run({ model: 'm' })))
      expect(others).toContain(lacking)
    })

    it('that are disabled are never chosen, and that are all out of order are used all the same, which the run says', async () => {
      await admin('POST', '/providers/big/disable')
      for (let n = 0; n < 4; n++) expect((await run()).grants!.providers.map(({ provider }) => provider)).toEqual(['small'])
      await run({}, () => [{ provider: 'small', outcome: 'auth', status: 401, tokens: null }])
      await untilState('small', 'open')
      const last = await run()
      expect(chosen(last)).toBe('small')
      expect(await theirs.until(last.run, 'succeeded')).toMatchObject({ degraded: true })
      const { data } = (await admin('GET', '/providers')) as { data: Json[] }
      expect(data.map((provider) => [provider['id'], provider['enabled']])).toEqual([['big', false], ['small', true]])
    })

    it('are those that the machine can pay with, by what its runner says of it', async () => {
      for (const id of ['big', 'small']) await admin('POST', `/providers/${id}/disable`)
      await admin('POST', '/providers', { id: 'local' })
      link = await runner.connect({ slots: 64, provider: null })
      const refused = await theirs.call('/v1/runs', { method: 'POST', body: JSON.stringify({ prompt: 'x' }) })
      expect([refused.status, await refused.json()]).toMatchObject([502, { code: 'unknown_provider' }])
      await admin('POST', '/providers/big/enable')
      for (let n = 0; n < 3; n++) expect(chosen(await run())).toBe('big')
    })

    it('have no session of a run that its runner refused', async () => {
      const started = theirs.call('/v1/runs', { method: 'POST', body: JSON.stringify({ prompt: 'x' }) })
      const offer = await link.next('offer')
      link.send({ t: 'reject', re: offer.id, run: offer.run, fence: offer.fence, code: 'policy', message: 'no' })
      expect((await started).status).toBe(403)
      await run()
      await until('the session of the run behind it to be bound', async () => ((await admin('GET', '/bindings')) as { data: Json[] }).data.length > 0)
      const { data } = (await admin('GET', '/bindings')) as { data: Json[] }
      expect(data.map((binding) => binding['session_id'])).not.toContain(sessionOf(offer))
    })

    it('are known after a restart as they were before: breakers, sessions and turns', async () => {
      const first = await run()
      const [home, session] = [chosen(first), sessionOf(first)]
      await theirs.until(first.run, 'succeeded')
      const other = home === 'big' ? 'small' : 'big'
      await run({}, () => [{ provider: other, outcome: 'auth', status: 401, tokens: null }])
      await untilState(other, 'open')
      await theirs.restart()
      link = await runner.connect({ slots: 64 })
      await theirs.allRunners('online')
      expect(await health(other)).toMatchObject({ state: 'open' })
      for (let n = 0; n < 3; n++) expect(chosen(await run({ session_id: session }))).toBe(home)
    })

    it('of one tenant are nothing to another', async () => {
      const strangers = await fleet.as(`strangers${tenants}`)
      const init = { token: strangers.adminToken }
      for (const path of ['/providers/big', '/providers/big/health']) expect((await strangers.call(`/admin/v1${path}`, init)).status).toBe(404)
      expect(await (await strangers.call('/admin/v1/providers', init)).json()).toMatchObject({ data: [] })
    })
  })
}
