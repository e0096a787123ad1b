/** Config files of a pool: written over HTTP, and with every runner of the pool before its next run. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { ConfigMessage, ToRunner } from '../../shared/frames.ts'
import { ROUTER_MAX_PAYLOAD } from '../../shared/limits.ts'
import { admins, startFleet, type Fleet, type Json } from '../kit/fleet.ts'
import type { Host } from '../kit/host.ts'
import { RawRunner, type RawLink } from '../kit/raw-runner.ts'
import { until } from '../kit/wait.ts'

const AGENT = '---\nname: reviewer\ndescription: Reviews what changed\n---\nBe brief.\n'
const CAPS = { caps: ['config'] }

export function configFiles(host: Host): void {
  describe('config files of a pool', () => {
    let fleet: Fleet
    beforeAll(async () => {
      fleet = await startFleet(host, {})
    })
    afterAll(() => fleet.close())

    const url = (id: string, pool: string) => `/v1/config/${id}?pool=${pool}`
    const put = (id: string, pool: string, content: string, more: { token?: string; headers?: Record<string, string> } = {}) =>
      fleet.call(url(id, pool), { method: 'PUT', body: JSON.stringify({ content }), token: fleet.adminToken, ...more })
    const remove = (id: string, pool: string, headers: Record<string, string> = {}) =>
      fleet.call(url(id, pool), { method: 'DELETE', token: fleet.adminToken, headers })
    const read = async (path: string) => (await (await fleet.call(path)).json()) as Json
    const set = (pool: string) => read(`/v1/config?pool=${pool}`) as Promise<Json & { version: number; data: Json[]; runners: Json[] }>
    const answer = async (response: Response) => ({ status: response.status, ...((await response.json()) as Json) })

    /** What came up to the offer of a run that its runner refuses; all of it is taken. */
    async function refused(link: RawLink, pool: string): Promise<ToRunner[]> {
      const asking = fleet.run({ prompt: 'hi', pool })
      const offer = await until('an offer', () => link.received.find((message) => message.t === 'offer'))
      const before = link.received.splice(0, link.received.indexOf(offer) + 1)
      link.send({ t: 'reject', re: offer.id, run: offer.run, fence: offer.fence, code: 'policy', message: 'no' })
      expect((await asking).status).toBe(403)
      return before
    }

    it('are written, read, changed and deleted by their names', async () => {
      const made = await put('agents.reviewer', 'crud', AGENT)
      expect([made.status, made.headers.get('etag'), await made.json()]).toEqual([201, '"1"', { id: 'agents.reviewer', pool: 'crud', version: 1 }])
      expect(await (await put('rules.style', 'crud', 'No semicolons.')).json()).toMatchObject({ version: 2 })
      expect((await put('claude-md', 'crud', 'Be kind.')).status).toBe(201)
      expect(await read(url('agents.reviewer', 'crud'))).toMatchObject({ id: 'agents.reviewer', kind: 'agents', name: 'reviewer', content: AGENT, version: 1, updated_by: 'test-admin' })
      expect(await set('crud')).toMatchObject({
        pool: 'crud',
        version: 3,
        data: [
          { id: 'agents.reviewer', description: 'Reviews what changed', chars: AGENT.length, version: 1 },
          { id: 'rules.style', description: null },
          { id: 'claude-md', name: '' },
        ],
        runners: [],
      })
      expect((await read('/v1/config?pool=crud&kind=rules'))['data']).toHaveLength(1)
      const again = await put('rules.style', 'crud', 'Semicolons.')
      expect([again.status, again.headers.get('etag')]).toEqual([200, '"4"'])
      expect((await remove('rules.style', 'crud')).status).toBe(204)
      expect(await answer(await remove('rules.style', 'crud'))).toMatchObject({ status: 404, code: 'not_found' })
      expect(await answer(await fleet.call(url('rules.style', 'crud')))).toMatchObject({ status: 404, code: 'not_found' })
      expect(await set('crud')).toMatchObject({ version: 5 })
      expect(await set('another')).toMatchObject({ version: 0, data: [] })
    })

    it('are in the audit with each change, and with none that was not made', async () => {
      const { headers } = await put('rules.a', 'noted', 'one')
      await put('rules.a', 'noted', 'three')
      expect((await put('rules.a', 'noted', 'no', { headers: { 'if-match': headers.get('etag')! } })).status).toBe(409)
      expect((await remove('rules.a', 'noted', { 'if-match': headers.get('etag')! })).status).toBe(409)
      const gone = await remove('rules.a', 'noted')
      expect((await remove('rules.a', 'noted')).status).toBe(404)
      const response = await fleet.call(`/admin/v1/audit?target=${encodeURIComponent('config/noted/rules.a')}`, { token: fleet.adminToken })
      const { data } = (await response.json()) as { data: Json[] }
      expect(data.toReversed()).toMatchObject([
        { action: 'config_file.put', actor: 'test-admin', before: null, after: { version: 1, chars: 3 } },
        { action: 'config_file.put', before: null, after: { version: 2, chars: 5 } },
        { action: 'config_file.delete', before: { version: 2, chars: 5 }, after: null, request_id: gone.headers.get('x-request-id') },
      ])
    })

    it('are changed by whoever knows what they were, where he says so', async () => {
      const { headers } = await put('rules.a', 'match', 'one')
      const match = { 'if-match': headers.get('etag')! }
      expect((await put('rules.a', 'match', 'two', { headers: match })).status).toBe(200)
      expect(await answer(await put('rules.a', 'match', 'three', { headers: match }))).toMatchObject({ status: 409, code: 'conflict' })
      expect(await answer(await put('rules.b', 'match', 'new', { headers: match }))).toMatchObject({ status: 409 })
      expect(await answer(await remove('rules.a', 'match', match))).toMatchObject({ status: 409, code: 'conflict' })
      expect(await read(url('rules.a', 'match'))).toMatchObject({ content: 'two' })
      expect((await remove('rules.a', 'match', { 'if-match': '"2"' })).status).toBe(204)
    })

    it.each([
      ['agents.../../x', 'x'],
      ['agents.UPPER', 'x'],
      ['hooks.x', 'x'],
      ['claude-md.x', 'x'],
      ['rules.a', ''],
      ['rules.a', 'a\0b'],
      ['rules.a', '@/etc/passwd'],
      ['agents.a', '---\nname: a\nhooks: {}\n---\n'],
      ['skills.a', 'Run !`id`.'],
    ])('refuse %s with %j', async (id, content) => {
      const response = await fleet.call(`/v1/config/${encodeURIComponent(id)}?pool=bad`, { method: 'PUT', body: JSON.stringify({ content }), token: fleet.adminToken })
      expect(await answer(response)).toMatchObject({ status: 400, code: 'invalid_request' })
      expect(await set('bad')).toMatchObject({ version: 0, data: [] })
    })

    it.each(['agents', 'skills', 'rules'])('have names of at most 60 characters: %s', async (kind) => {
      const [fits, long] = ['a'.repeat(60), 'a'.repeat(61)].map((name) => `${kind}.${name}`) as [string, string]
      expect(await answer(await put(fits, 'long', 'x'))).toMatchObject({ status: 201, id: fits })
      for (const response of [await put(long, 'long', 'x'), await fleet.call(url(long, 'long')), await remove(long, 'long')]) {
        expect(await answer(response)).toMatchObject({ status: 400, code: 'invalid_request', field: 'id' })
      }
      expect((await remove(fits, 'long')).status).toBe(204)
    })

    it('are for tokens with the scope, in the pools that they are good for', async () => {
      expect(await answer(await put('rules.a', 'scoped', 'x', { token: fleet.token }))).toMatchObject({ status: 403, code: 'forbidden', scope: 'config:write' })
      const { token } = await admins<{ token: string }>(fleet, 'tokens', {
        kind: 'app',
        scopes: ['config:read', 'config:write'],
        limits: { pools: ['mine'] },
      })
      expect(await answer(await put('rules.a', 'scoped', 'x', { token }))).toMatchObject({ status: 403, code: 'forbidden' })
      expect((await fleet.call('/v1/config?pool=scoped', { token })).status).toBe(403)
      expect((await put('rules.a', 'mine', 'x', { token })).status).toBe(201)
      // Without a pool it is the token's own.
      expect(await (await fleet.call('/v1/config', { token })).json()).toMatchObject({ pool: 'mine', data: [{ id: 'rules.a' }] })
    })

    it('are as many as there is room for, however many come at once', async () => {
      expect(await answer(await put('rules.a', 'full', 'x'.repeat(500_001)))).toMatchObject({ status: 400, field: 'content' })
      const big = 'x'.repeat(499_000)
      for (let i = 0; i < 8; i++) expect((await put(`rules.big-${i}`, 'full', big)).status).toBe(201)
      const last = await Promise.all(Array.from({ length: 5 }, (_, i) => put(`rules.small-${i}`, 'full', 'y'.repeat(5_000))))
      const full = last.filter(({ status }) => status === 413)
      expect([full.length, last.filter(({ status }) => status === 201).length]).toEqual([4, 1])
      expect(await full[0]!.json()).toMatchObject({ code: 'too_large', detail: expect.stringMatching(/3997000 of at most 4000000 characters/) })
      // What is there may be changed all the same.
      expect((await put('rules.big-0', 'full', big.replaceAll('x', 'z'))).status).toBe(200)
      expect(await set('full')).toMatchObject({ version: 10 })
      const runner = await RawRunner.enlist(fleet, { pool: 'full' })
      const link = await runner.connect(CAPS)
      const parts = await config(link, 10)
      expect(parts.length).toBeGreaterThan(3)
      expect(parts.map(({ part }) => part)).toEqual(parts.map((_, i) => i))
      for (const part of parts) expect(JSON.stringify(part).length).toBeLessThan(ROUTER_MAX_PAYLOAD)
      expect(parts.flatMap(({ files }) => files)).toHaveLength(9)
      await link.cut()
    })

    it('reach a runner when it connects and whenever they change, and it is seen what it has', async () => {
      const runner = await RawRunner.enlist(fleet, { pool: 'live', name: 'machine' })
      const other = await RawRunner.enlist(fleet, { pool: 'elsewhere' })
      await put('agents.reviewer', 'live', AGENT)
      const [link, stranger] = [await runner.connect(CAPS), await other.connect(CAPS)]
      expect(await config(link, 1)).toEqual([{ t: 'config', version: 1, part: 0, parts: 1, files: [{ kind: 'agents', name: 'reviewer', content: AGENT }] }])
      expect(await config(stranger, 0)).toMatchObject([{ files: [] }])
      expect(await set('live')).toMatchObject({ runners: [{ name: 'machine', version: null, error: null }] })
      link.send({ t: 'configured', version: 1, error: 'too many words' })
      await until('the runner to be seen with it', async () => (await set('live')).runners[0]?.['version'] === 1)
      expect(await set('live')).toMatchObject({ runners: [{ id: runner.identity.runnerId, version: 1, error: 'too many words' }] })
      await put('claude-md', 'live', 'Be kind.')
      expect((await config(link, 2)).flatMap(({ files }) => files.map(({ kind }) => kind))).toEqual(['agents', 'claude-md'])
      await remove('agents.reviewer', 'live')
      await remove('claude-md', 'live')
      expect((await config(link, 4)).flatMap(({ files }) => files)).toEqual([])
      expect(configs(stranger)).toEqual([])
      await link.cut()
      await until('the runner to be gone', async () => (await set('live')).runners[0]?.['version'] === null)
      await stranger.cut()
    })

    it('are there before a run that was submitted after them, each time', async () => {
      const runner = await RawRunner.enlist(fleet, { pool: 'order' })
      const link = await runner.connect(CAPS)
      for (let version = 1; version <= 8; version++) {
        expect((await put('claude-md', 'order', `Version ${version}.`)).status).toBeLessThan(300)
        const before = await refused(link, 'order')
        const last = before.findLast((message): message is ConfigMessage => message.t === 'config')
        expect(last?.files).toEqual([{ kind: 'claude-md', name: '', content: `Version ${version}.` }])
      }
      await link.cut()
    })

    it('are with a runner that was away before the run that waited for it', async () => {
      const runner = await RawRunner.enlist(fleet, { pool: 'away' })
      const first = await runner.connect(CAPS)
      await first.cut()
      await put('rules.style', 'away', 'No semicolons.')
      const run = await fleet.start({ prompt: 'hi', pool: 'away' })
      const link = await runner.connect(CAPS)
      await until('the offer', () => link.received.some((message) => message.t === 'offer' && message.run === run.id))
      expect(kinds(link.received)).toEqual(['config', 'offer'])
      await link.cut()
    })

    it('are not sent to a runner that does not know of them', async () => {
      const runner = await RawRunner.enlist(fleet, { pool: 'older' })
      const link = await runner.connect()
      await put('rules.style', 'older', 'No semicolons.')
      expect(kinds(await refused(link, 'older'))).toEqual(['offer'])
      await link.cut()
    })

    it.runIf(host.can.forcesEviction)('are not sent again by an object that was asleep, unless they changed', async () => {
      const runner = await RawRunner.enlist(fleet, { pool: 'asleep' })
      await put('rules.style', 'asleep', 'No semicolons.')
      const link = await runner.connect(CAPS)
      await config(link, 1)
      link.send({ t: 'configured', version: 1 })
      await until('the runner to be seen with it', async () => (await set('asleep')).runners[0]?.['version'] === 1)
      await fleet.host.evictRunner!(runner.identity.runnerId, 'hibernate')
      expect(await set('asleep')).toMatchObject({ runners: [{ version: 1 }] })
      expect(kinds(await refused(link, 'asleep'))).toEqual(['offer'])
      await fleet.host.evictRunner!(runner.identity.runnerId, 'hibernate')
      await put('rules.style', 'asleep', 'Semicolons.')
      expect(await config(link, 2)).toMatchObject([{ files: [{ content: 'Semicolons.' }] }])
      await link.cut()
    })
  })
}

const configs = (link: RawLink): ConfigMessage[] => link.received.filter((message) => message.t === 'config')
const kinds = (messages: readonly ToRunner[]): string[] => messages.map(({ t }) => t).filter((t) => t === 'config' || t === 'offer')

/** All parts of the set of this version, and of none before it; they are taken from what was received. */
async function config(link: RawLink, version: number): Promise<ConfigMessage[]> {
  const parts = await until(`config files of version ${version}`, () => {
    const found = configs(link).filter((message) => message.version === version)
    return found.length > 0 && found.length === found[0]!.parts && found
  })
  const rest = link.received.filter((message) => message.t !== 'config')
  link.received.splice(0, link.received.length, ...rest)
  return parts
}
