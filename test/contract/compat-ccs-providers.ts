/** Load balancing of ccs: the providers of the tenant in its words. What a gateway says of them is what the test wants. */
import { beforeEach, describe, expect, it } from 'vitest'
import type { Offer } from '../../shared/frames.ts'
import type { ProviderReport } from '../../shared/grants.ts'
import { admins, type Fleet, type Json } from '../kit/fleet.ts'
import type { Host } from '../kit/host.ts'
import { RawRunner, type RawLink } from '../kit/raw-runner.ts'
import { until } from '../kit/wait.ts'
import { asked, no, type Answer } from './compat-ccs-kit.ts'
import { tenantEach } from './tenants.ts'

const RECOVERY_S = 1

export function ccsProviders(host: Host): void {
  describe('load balancing of ccs', () => {
    const current = tenantEach(host)
    let fleet: Fleet
    let token: string
    beforeEach(async () => {
      fleet = current()
      const scopes = ['runs:write', 'runs:read', 'config:read', 'config:write']
      token = (await admins<{ token: string }>(fleet, 'tokens', { kind: 'app', subject: 'balancer', scopes })).token
    })
    const call = (method: string, path: string, body?: unknown): Promise<Answer> => asked(fleet, method, `/api/load-balance/${path}`, body, { token })
    const admin = (method: string, path: string, body: object) => fleet.call(`/admin/v1/${path}`, { method, token: fleet.adminToken, body: JSON.stringify(body) })

    const provider = async (id: string) => {
      const [, { providers }] = await call('GET', 'status')
      return (providers as Json[]).find((one) => one['id'] === id)
    }
    const chosen = (offer: Offer) => offer.grants!.providers[0]!.provider
    async function run(link: RawLink, report: Partial<ProviderReport> = {}): Promise<Offer> {
      const [[, { task_id }], offer] = await Promise.all([asked(fleet, 'POST', '/api/async/messages', { prompt: 'x' }, { token }), link.begin()])
      const tokens = { input_tokens: 5, output_tokens: 7, cache_creation_input_tokens: 0, cache_read_input_tokens: 0 }
      const base = { run: offer.run, fence: offer.fence, stage: 'end' as const, provider: chosen(offer), version: 1, model: 'm', outcome: 'ok' as const, status: 200 }
      const message = { t: 'provider' as const, ...base, retry_after_ms: null, latency_ms: 12, tokens, ...report }
      if (message.outcome === 'ok') link.send({ ...message, stage: 'headers', tokens: null })
      link.send(message)
      link.exit(offer, 2)
      await until('the task to end', async () => ((await asked(fleet, 'GET', `/api/tasks/${String(task_id)}`, undefined, { token }))[1]['task'] as Json)['status'] === 'completed')
      return offer
    }

    it('is of none where none is set up', async () => {
      expect(await call('GET', 'status')).toEqual([200, { success: true, strategy: 'none', failover: false, providers: [] }])
      expect(await call('GET', 'bindings')).toEqual([200, { success: true, bindings: {} }])
      for (const what of ['reset', 'enable', 'disable']) expect(await call('POST', `providers/any/${what}`)).toEqual([404, no('Load balancing not configured')])
    })

    it('shows each provider, disabled ones too, and changes them for good and with the name of who did', async () => {
      await admin('PUT', 'routing', { strategy: 'weighted', failover: true })
      for (const [id, weight] of [['big', 3], ['small', 1]] as const) await admins(fleet, 'providers', { id, name: id.toUpperCase(), base_url: `https://${id}.example.com`, api_key: `sk-${id}-0123456789`, weight })
      const view = (id: string, weight: number, more: Json = {}) => ({ id, name: id.toUpperCase(), weight, enabled: true, healthy: true, consecutiveFailures: 0, totalRequests: 0, boundSessions: 0, ...more })
      const status = (...providers: Json[]) => [200, { success: true, strategy: 'weighted', failover: true, providers }]
      expect(await call('GET', 'status')).toEqual(status(view('big', 3), view('small', 1)))
      expect(await call('POST', 'providers/big/disable')).toEqual([200, { success: true, message: 'Provider big disabled' }])
      await fleet.restart()
      expect(await call('GET', 'status')).toEqual(status(view('big', 3, { enabled: false }), view('small', 1)))
      expect(await call('POST', 'providers/big/enable')).toEqual([200, { success: true, message: 'Provider big enabled' }])
      expect(await call('POST', 'providers/big/reset')).toEqual([200, { success: true, message: 'Provider big health reset' }])
      for (const id of ['other', '-', 'a b']) expect(await call('POST', `providers/${id}/reset`)).toEqual([404, no('Provider not found')])
      const { data } = (await (await fleet.call('/admin/v1/audit?target=provider/big', { token: fleet.adminToken })).json()) as { data: Json[] }
      expect(data.map(({ action, actor }) => [action, actor])).toEqual([['provider.reset', 'balancer'], ['provider.enable', 'balancer'], ['provider.disable', 'balancer'], ['provider.create', 'test-admin']])
      expect(JSON.stringify(await call('GET', 'status'))).not.toMatch(/sk-/)
      const reader = (await admins<{ token: string }>(fleet, 'tokens', { kind: 'app', subject: 'reader', scopes: ['config:read'] })).token
      expect(await asked(fleet, 'POST', '/api/load-balance/providers/big/disable', undefined, { token: reader })).toMatchObject([403, no(expect.stringContaining('config:write'))])
    })

    it('shares runs out three to one, and binds each session to its provider', async () => {
      for (const [id, weight] of [['big', 3], ['small', 1]] as const) await admins(fleet, 'providers', { id, base_url: `https://${id}.example.com`, api_key: `sk-${id}-0123456789`, weight })
      const link = await (await RawRunner.enlist(fleet)).connect({ slots: 8 })
      const offers: Offer[] = []
      for (let n = 0; n < 8; n++) offers.push(await run(link))
      expect(offers.map(chosen).filter((id) => id === 'small')).toHaveLength(2)
      expect(await call('GET', 'bindings')).toEqual([200, { success: true, bindings: Object.fromEntries(offers.map((offer) => [offer.spec.session.id, chosen(offer)])) }])
      await until('all requests to be counted', async () => (await provider('big'))?.['totalRequests'] === 6)
      expect(await provider('small')).toMatchObject({ totalRequests: 2, boundSessions: 2, healthy: true })
    })

    it('passes by a provider that failed, and takes it again when its recovery time is over', async () => {
      await admin('PUT', 'routing', { strategy: 'round-robin', failure_threshold: 2, recovery_s: RECOVERY_S })
      for (const id of ['a', 'b']) await admins(fleet, 'providers', { id, base_url: `https://${id}.example.com`, api_key: `sk-${id}-0123456789` })
      await call('POST', 'providers/b/disable')
      const link = await (await RawRunner.enlist(fleet)).connect({ slots: 8 })
      const failed = { outcome: 'overloaded' as const, status: 529, tokens: null }
      // What a caller did wrong is nobody's failure but his.
      await run(link, { outcome: 'caller', status: 400, tokens: null })
      expect(await provider('a')).toMatchObject({ healthy: true, consecutiveFailures: 0 })
      for (const failures of [1, 2]) {
        await run(link, failed)
        await until(`${failures} failures to be counted`, async () => (await provider('a'))?.['consecutiveFailures'] === failures)
      }
      const openedAt = performance.now()
      expect(await provider('a')).toMatchObject({ healthy: false })
      await call('POST', 'providers/b/enable')
      expect(chosen(await run(link))).toBe('b')
      await until('its time to be over', async () => (await provider('a'))?.['healthy'] === true)
      expect(performance.now() - openedAt).toBeGreaterThan(500 * RECOVERY_S)
      expect(chosen(await run(link))).toBe('a')
      await until('it to be well', async () => (await provider('a'))?.['consecutiveFailures'] === 0)
      // And at once, when somebody says so.
      await call('POST', 'providers/b/disable')
      for (const _ of [1, 2]) await run(link, failed)
      await until('it to be out of order', async () => (await provider('a'))?.['healthy'] === false)
      await call('POST', 'providers/a/reset')
      expect(await provider('a')).toMatchObject({ healthy: true, consecutiveFailures: 0 })
    })
  })
}
