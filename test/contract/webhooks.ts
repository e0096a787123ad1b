/** Who is told of runs and sessions, and who cannot be made to be: real receivers, checked by the library of the standard. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { uuidOfRun } from '../../shared/ids.ts'
import { admins, startFleet, type Fleet, type Json } from '../kit/fleet.ts'
import type { Host } from '../kit/host.ts'
import { openReceiver, verified, type Receiver } from '../kit/receiver.ts'
import { echo, gate } from '../kit/turns.ts'
import { until } from '../kit/wait.ts'

type Made = { id: string; secret: string; url: string }
type DeliveryView = Json & { id: string; state: string; attempts: number; status: number | null; error: string | null; event: string; webhook: string | null; last_at: string | null }

/** An address in each of the ways that lead back here. */
const PRIVATE = [
  'http://127.0.0.1/', 'http://localhost:8080/', 'http://2130706433/', 'http://0x7f000001/', 'http://017700000001/', 'http://127.1/', 'http://0.0.0.0/',
  'http://169.254.169.254/latest/meta-data/', 'http://metadata.google.internal/', 'http://10.0.0.1/', 'http://192.168.0.1/', 'http://172.16.0.1/', 'http://100.64.0.1/',
  'http://[::1]/', 'http://[::]/', 'http://[::ffff:127.0.0.1]/', 'http://[::ffff:a9fe:a9fe]/', 'http://[fd00::1]/', 'http://[fe80::1]/', 'http://[fc00::1]/', 'http://[::7f00:1]/',
]
const NO_ADDRESS = ['https://user:hunter2@example.com/', 'ftp://example.com/', 'file:///etc/passwd', 'example.com', 'javascript:alert(1)', '']

export function webhooks(host: Host): void {
  describe('webhooks', () => {
    let operator: Fleet
    let fleet: Fleet
    let receiver: Receiver
    let count = 0
    const receivers: Receiver[] = []
    beforeAll(async () => {
      operator = await startFleet(host, {})
      await allow({ allow_private: true, timeout_s: 1 })
    })
    afterAll(() => operator.close())
    beforeEach(async () => {
      fleet = await operator.as(`hooked-${++count}`)
      receiver = await listener()
    })
    afterEach(async () => {
      await fleet.close()
      await Promise.all(receivers.splice(0).map((one) => one.close()))
    })

    const listener = async (replies?: Receiver['replies']) => {
      const opened = await openReceiver(replies)
      receivers.push(opened)
      return opened
    }
    const ask = async (by: Fleet, method: string, path: string, body?: object): Promise<{ status: number; body: Json }> => {
      const response = await by.call(`/admin/v1/${path}`, { method, token: by.adminToken, ...(body ? { body: JSON.stringify(body) } : {}) })
      const text = await response.text()
      return { status: response.status, body: text === '' ? {} : (JSON.parse(text) as Json) }
    }
    const allow = (settings: object) => ask(operator, 'PUT', 'webhook-settings', settings)
    const hook = (path = '', more: object = {}, by = fleet) => admins<Made>(by, 'webhooks', { url: receiver.url + path, ...more })
    const deliveries = async (query = '') => (await ask(fleet, 'GET', `webhook-deliveries${query}`)).body['data'] as DeliveryView[]
    const settled = (id: string, state = 'delivered', timeoutMs?: number) =>
      until(`delivery ${id} to be ${state}`, async () => (await deliveries()).find((one) => one.id === id && one.state === state), timeoutMs)
    const heard = (n: number, by = receiver) => until(`${n} messages`, () => by.heard.length >= n && by.heard)
    const test = async ({ id }: Made) => {
      const { status, body } = await ask(fleet, 'POST', `webhooks/${id}/test`)
      expect([status, body]).toMatchObject([202, { webhook: id, event: 'webhook.test' }])
      return String(body['id'])
    }
    const run = async (body: object = {}) => {
      const response = await fleet.run({ prompt: 'hello', ...body })
      const view = (await response.json()) as Json
      expect([response.status, view]).toMatchObject([200, { status: 'succeeded' }])
      return view
    }

    it('tell of the start and the end of a run, signed, with its result', async () => {
      await fleet.runner({ turn: echo })
      const { secret, id } = await hook('a')
      await hook('started', { events: ['run.started'] })
      await hook('off', { enabled: false })
      const { id: about, session_id } = await run()
      await until('all of it', () => receiver.heard.length >= 4)
      const bodies = receiver.at('/a').map((one) => verified(one, secret))
      expect(bodies.map(({ type }) => String(type)).toSorted()).toEqual(['run.started', 'run.succeeded', 'session.created'])
      const ended = bodies.find(({ type }) => type === 'run.succeeded')
      expect(ended).toMatchObject({ data: { id: about, session_id, status: 'succeeded', result: 'hello', result_truncated: false, cost_usd: 0.5 } })
      expect(receiver.at('/started').map(({ body }) => body['type'])).toEqual(['run.started'])
      const told = await fleet.call(`/v1/runs/${String(about)}/deliveries`)
      const { data } = (await told.json()) as { data: DeliveryView[] }
      expect([told.status, data.length]).toEqual([200, 3])
      const mine = await settled(data.find((one) => one.event === 'run.succeeded' && one.webhook === id)!.id)
      expect(mine).toMatchObject({ run_id: about, url: `${receiver.url}a`, attempts: 1, status: 204, error: null, next_at: null })
      expect(receiver.at('/a').map((one) => one.id)).toContain(mine.id)
      // An app sees who was told, and not by what path.
      expect(data.map(({ url }) => url)).toEqual([0, 1, 2].map(() => receiver.url.slice(0, -1)))
    })

    it('tell the address that a request names of the ending of its run, as that request wants it told', async () => {
      await fleet.runner({ turn: echo })
      const { id } = await run({ webhook: { url: `${receiver.url}mine` } })
      const { id: other } = await run({ webhook: { url: `${receiver.url}ccs`, format: 'ccs' } })
      await heard(2)
      const { body } = await ask(fleet, 'POST', 'webhooks/request/secret')
      // The one that was there before signs along.
      await run({ webhook: { url: `${receiver.url}next` } })
      await heard(3)
      expect(verified(receiver.at('/next')[0]!, String(body['secret']))).toMatchObject({ type: 'run.succeeded' })
      expect(String(receiver.at('/next')[0]!.headers['webhook-signature']).split(' ')).toHaveLength(2)
      expect(receiver.at('/mine')).toMatchObject([{ body: { type: 'run.succeeded', data: { id, result: 'hello' } } }])
      const [ccs] = receiver.at('/ccs')
      expect(ccs).toMatchObject({ headers: { 'user-agent': 'Claude-API-Server/1.0' }, body: { event: 'task.completed', data: { task_id: uuidOfRun(String(other)), result: 'hello', cost_usd: 0.5 } } })
      expect(receiver.heard).toHaveLength(3)
    })

    it('tell of a run that is cancelled while it waits, and of a session that comes and goes', async () => {
      const { secret } = await hook()
      const waiting = await fleet.start({ prompt: 'x' })
      await fleet.call(`/v1/runs/${waiting.id}/cancel`, { method: 'POST' })
      await heard(1)
      const made = (await (await fleet.call('/v1/sessions', { method: 'POST', body: JSON.stringify({ title: 'T' }) })).json()) as Json
      await heard(2)
      await fleet.call(`/v1/sessions/${String(made['id'])}`, { method: 'DELETE' })
      await heard(3)
      expect(receiver.heard.map((one) => verified(one, secret))).toMatchObject([
        { type: 'run.cancelled', data: { id: waiting.id, status: 'cancelled' } },
        { type: 'session.created', data: { id: made['id'] } },
        { type: 'session.deleted', data: { id: made['id'] } },
      ])
    })

    it('are made, read, changed, tried and deleted by the admins of their tenant, and each change is in the audit', async () => {
      const made = await hook('a', { events: ['run.failed'], format: 'ccs' })
      expect(made.secret).toMatch(/^whsec_[A-Za-z0-9+/]{43}=$/)
      const path = `webhooks/${made.id}`
      const { secret: _once, ...shown } = made
      expect((await ask(fleet, 'GET', path)).body).toEqual(shown)
      expect((await ask(fleet, 'GET', 'webhooks')).body).toEqual({ data: [shown], next: null })
      const patched = await ask(fleet, 'PATCH', path, { url: `${receiver.url}b`, events: null, format: 'standard' })
      expect(patched).toMatchObject({ status: 200, body: { url: `${receiver.url}b`, events: null, format: 'standard', enabled: true } })
      await settled(await test(made))
      expect(verified(receiver.at('/b')[0]!, made.secret)).toMatchObject({ type: 'webhook.test', data: { webhook_id: made.id } })
      const renewed = await ask(fleet, 'POST', `${path}/secret`)
      await settled(await test(made))
      for (const secret of [made.secret, String(renewed.body['secret'])]) verified(receiver.at('/b')[1]!, secret)
      await ask(fleet, 'POST', `${path}/secret`)
      await settled(await test(made))
      expect(() => verified(receiver.at('/b')[2]!, made.secret)).toThrow(/signature/)
      expect((await ask(fleet, 'DELETE', path)).status).toBe(204)
      for (const [method, rest] of [['GET', ''], ['PATCH', ''], ['DELETE', ''], ['POST', '/secret'], ['POST', '/test']] as const) {
        expect((await ask(fleet, method, path + rest, method === 'PATCH' ? {} : undefined)).status).toBe(404)
      }
      const audit = (await ask(fleet, 'GET', 'audit')).body['data'] as Json[]
      expect(audit.map(({ action }) => action)).toEqual(['webhook.delete', 'webhook.secret', 'webhook.secret', 'webhook.update', 'webhook.create', 'token.create'])
      expect(JSON.stringify(audit)).not.toContain('whsec_')
    })

    it('are refused to private addresses and to what is no address, by admins and by requests', async () => {
      await allow({})
      const { id } = await admins<Made>(fleet, 'webhooks', { url: 'https://hooks.example.com/' })
      try {
        for (const url of [...PRIVATE, ...NO_ADDRESS]) {
          const made = await ask(fleet, 'POST', 'webhooks', { url })
          const changed = await ask(fleet, 'PATCH', `webhooks/${id}`, { url })
          const asked = await fleet.run({ prompt: 'x', webhook: { url }, queue_timeout_s: 0 })
          const problem = (await asked.json()) as Json
          expect([url, made.status, made.body['field'], changed.status, asked.status, problem['field']]).toEqual([url, 400, 'url', 400, 400, 'webhook.url'])
          expect(JSON.stringify([made.body, changed.body, problem])).not.toContain('hunter2')
        }
        expect(((await ask(fleet, 'GET', 'webhooks')).body['data'] as Json[]).length).toBe(1)
      } finally {
        await allow({ allow_private: true, timeout_s: 1 })
      }
      expect((await ask(fleet, 'PUT', 'webhook-settings', {})).status).toBe(403)
      expect((await ask(fleet, 'GET', 'webhook-settings')).status).toBe(403)
      expect((await ask(operator, 'PUT', 'webhook-settings', { timeout_s: 61 })).status).toBe(400)
    })

    it('do not reach a private address once nobody allows it any more', async () => {
      const made = await hook()
      await allow({ timeout_s: 1 })
      try {
        const id = await test(made)
        const tried = await until('an attempt', async () => (await deliveries()).find((one) => one.id === id && one.attempts === 1 && one.error !== null))
        const refused = { status: null, error: 'the address is not one of the public internet' }
        expect(tried).toMatchObject({ state: 'pending', ...refused })
        let last: string | null | undefined = tried.last_at
        // Ahead of its time, and no more often than it would have been.
        for (const attempts of [2, 3]) {
          expect((await ask(fleet, 'POST', `webhook-deliveries/${id}/redeliver`)).status).toBe(202)
          // A claim is over when what came of it is there: until then it is not tried again.
          await until('the next one', async () => (await deliveries()).some((one) => one.id === id && one.attempts === attempts && one.last_at !== last))
          last = (await deliveries()).find((one) => one.id === id)?.last_at
        }
        expect(await settled(id, 'failed')).toMatchObject({ attempts: 3, ...refused })
        expect(receiver.heard).toEqual([])
      } finally {
        await allow({ allow_private: true, timeout_s: 1 })
      }
    })

    it('follow no redirect', async () => {
      const behind = await listener()
      receiver.replies = () => ({ status: 307, headers: { location: behind.url } })
      const id = await test(await hook())
      const tried = await until('an attempt', async () => (await deliveries()).find((one) => one.id === id && one.status !== null))
      expect(tried).toMatchObject({ state: 'pending', status: 307, error: 'redirects are not followed' })
      expect(behind.heard).toEqual([])
    })

    it('come again after a 500, and go to others while one receiver says nothing', { timeout: 60_000 }, async () => {
      receiver.replies = (path, nth) => (path === '/dead' ? 'silence' : nth === 1 ? 500 : 200)
      const other = await listener()
      const [dead, failing, fine] = [await hook('dead'), await hook('failing'), await admins<Made>(fleet, 'webhooks', { url: other.url })]
      const [hung, retried, taken] = [await test(dead), await test(failing), await test(fine)]
      await settled(taken)
      expect(await settled(retried)).toMatchObject({ attempts: 2, status: 200 })
      const [first, second] = receiver.at('/failing')
      expect([second!.id, second!.text]).toEqual([first!.id, first!.text])
      expect([verified(first!, failing.secret), second!.id]).toEqual([verified(second!, failing.secret), retried])
      expect((await deliveries()).find((one) => one.id === hung)).toMatchObject({ state: 'pending', error: 'no answer in time' })
      // Whoever has mended his receiver need not wait for the schedule.
      receiver.replies = () => 200
      await until('that nobody tries it', async () => (await ask(fleet, 'POST', `webhook-deliveries/${hung}/redeliver`)).status === 202)
      // On a busy machine this attempt may be too late as well, and the next one is 15 s away.
      await settled(hung, 'delivered', 25_000)
    })

    it('are delivered again when an admin asks for it, under the same id', async () => {
      receiver.replies = (_path, nth) => (nth === 1 ? 410 : 200)
      const id = await test(await hook())
      expect(await settled(id, 'failed')).toMatchObject({ status: 410 })
      expect((await ask(fleet, 'POST', `webhook-deliveries/${id}/redeliver`)).status).toBe(202)
      await settled(id)
      expect(receiver.heard.map((one) => one.id)).toEqual([id, id])
      expect((await ask(fleet, 'GET', `webhook-deliveries/${id}`)).body).toMatchObject({ id, state: 'delivered', body: receiver.heard[0]!.text })
      expect(await deliveries('?state=failed')).toEqual([])
      expect((await ask(fleet, 'GET', 'webhook-deliveries/msg_1')).status).toBe(404)
    })

    it('keep nothing of what was said in a session that is deleted, and send nothing of it any more', async () => {
      await fleet.runner({ turn: echo })
      const [taking] = [await hook('fine', { events: ['run.succeeded'] }), await hook('failing', { events: ['run.succeeded'] })]
      receiver.replies = (path) => (path === '/fine' ? 200 : 500)
      const { session_id } = await run({ prompt: 'a secret', metadata: { note: 'secret' } })
      const both = await until('two attempts', async () => {
        const tried = await deliveries()
        return tried.length === 2 && tried.every(({ status }) => status !== null) && tried
      })
      const read = (id: string) => ask(fleet, 'GET', `webhook-deliveries/${id}`)
      for (const { id } of both) expect(String((await read(id)).body['body'])).toContain('a secret')
      expect((await fleet.call(`/v1/sessions/${String(session_id)}`, { method: 'DELETE' })).status).toBe(204)
      for (const { id, webhook } of both) {
        const left = webhook === taking.id ? { state: 'delivered', status: 200 } : { state: 'failed', status: 500, error: 'the session was deleted', next_at: null }
        expect((await read(id)).body).toMatchObject({ id, body: null, ...left })
        expect(await ask(fleet, 'POST', `webhook-deliveries/${id}/redeliver`)).toMatchObject({ status: 409, body: { code: 'conflict' } })
      }
      expect(receiver.heard).toHaveLength(2)
    })

    it('are 32 at most, however many are asked for at once', async () => {
      const asked = await Promise.all(Array.from({ length: 40 }, () => ask(fleet, 'POST', 'webhooks', { url: receiver.url })))
      expect(asked.filter(({ status }) => status === 201)).toHaveLength(32)
      const refused = asked.filter(({ status }) => status !== 201)
      expect(refused).toMatchObject(Array.from({ length: 8 }, () => ({ status: 409, body: { code: 'conflict' } })))
      expect(String(refused[0]?.body['detail'])).toContain('there are 32 webhooks already')
      expect((await ask(fleet, 'GET', 'webhooks?limit=100')).body['data']).toHaveLength(32)
    })

    it('survive a restart of the host: none is lost, and none is another message', { timeout: 60_000 }, async () => {
      const cli = gate()
      await fleet.runner({ turn: cli.turn })
      const { secret } = await hook('', { events: ['run.succeeded'] })
      receiver.replies = () => 'silence'
      const runs = await Promise.all([1, 2, 3].map((n) => fleet.start({ prompt: `p${n}` })))
      for (const n of [1, 2]) await cli.finish(`p${n}`)
      // One or both are on their way when it ends, and one run ends while it is away.
      await heard(1)
      const back = fleet.restart()
      await cli.finish('p3')
      await back
      receiver.replies = () => 204
      await until('all to be delivered', async () => (await deliveries('?state=delivered')).length === 3, 45_000)
      const ids = new Map(receiver.heard.map((one) => [one.id, String((verified(one, secret)['data'] as Json)['id'])]))
      expect([...ids.values()].toSorted()).toEqual(runs.map(({ id }) => id).toSorted())
    })
  })
}
