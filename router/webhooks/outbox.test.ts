/** The whole way from what happened to who hears of it, on a real database and over real sockets; the clock is the test's. */
import { eq } from 'drizzle-orm'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { deliveries, notices, runs, webhooks } from '../../drizzle/schema.ts'
import { openLog, type LogRig } from '../../test/kit/log.ts'
import { openReceiver, verified, type Receiver } from '../../test/kit/receiver.ts'
import type { RunWebhook, WebhookEvent } from '../../shared/webhooks.ts'
import { newKeyRing, openVault, withNewKey } from '../guard/vault.ts'
import { webhookDialler, type WebhookDialler } from '../node/webhook-dial.ts'
import type { Log, Records, Vault } from '../ports.ts'
import { listDeliveries, pruneDeliveries, redelivery, type DeliveryRow } from '../store/deliveries.ts'
import { storeRecords } from '../store/records.ts'
import { countSealedByOthers, findWebhook, insertWebhook, REQUEST, webhookChange, webhookDeletion, type WebhookRow } from '../store/webhooks.ts'
import { MAX_WEBHOOKS } from './make.ts'
import { Outbox, type OutboxParts } from './outbox.ts'
import type { Post } from './post.ts'
import { MAX_ATTEMPTS, MAX_REFUSALS } from './schedule.ts'
import { newSecret, openSecrets, resealWebhooks, sealSecret } from './secret.ts'
import { webhookSettingsChange } from './settings.ts'

const HOUR_MS = 3_600_000
/** Longer than any claim is good for. */
const CLAIM_MS = 60_000
const quiet: Log = { info: () => undefined, warn: () => undefined, error: () => undefined }

describe('the sending of webhooks', () => {
  let rig: LogRig
  let receiver: Receiver
  let dialler: WebhookDialler
  let vault: Vault
  let now: number
  let hooks: number
  const secrets = new Map<string, string>()
  beforeEach(async () => {
    rig = await openLog()
    receiver = await openReceiver()
    dialler = webhookDialler()
    vault = await openVault(newKeyRing('test'))
    // Not in the past: a signature is checked against the clock of whoever checks it.
    now = Date.now()
    hooks = 0
    await allow({ allow_private: true, timeout_s: 1 })
  })
  afterEach(async () => {
    await dialler.close()
    await receiver.close()
    await rig.close()
  })

  const allow = (settings: { allow_private: boolean; timeout_s: number }) => rig.database.batch([webhookSettingsChange(rig.database.db, settings, now)])
  const outbox = (parts: Partial<OutboxParts> = {}) =>
    new Outbox({
      store: () => rig.database,
      records: () => storeRecords(rig.database),
      vault: () => vault,
      platform: { now: () => now, random: () => 0 },
      log: quiet,
      post: dialler.post,
      most: { here: 32, perTenant: 16, perHost: 8 },
      ...parts,
    })
  const drain = (parts?: Partial<OutboxParts>) => outbox(parts).drain(Infinity)
  async function hook(path: string, more: Partial<WebhookRow> = {}): Promise<WebhookRow> {
    const secret = newSecret()
    const place = { tenant: 'default', id: `whk_${String(++hooks).padStart(32, '0')}`, ...more }
    secrets.set(place.id, secret)
    const sealed = await sealSecret(vault, place, secret)
    const row: WebhookRow = { ...sealed, url: receiver.url + path, events: null, format: 'standard', enabled: true, createdAt: now, updatedAt: now, ...place }
    await rig.database.batch([insertWebhook(rig.database.db, row, MAX_WEBHOOKS)])
    return row
  }
  async function happened(event: WebhookEvent = 'run.succeeded', about: { tenant?: string; webhook?: RunWebhook; session?: boolean } = {}): Promise<string> {
    const { tenant = 'default', webhook, session } = about
    const run = await rig.run()
    await rig.database.db.update(runs).set({ tenant, ...(webhook ? { webhook } : {}), state: 'succeeded', endedAt: now, costUsd: 0.5 }).where(eq(runs.id, run))
    const [thing, id] = session ? (['session', crypto.randomUUID()] as const) : (['run', run] as const)
    await rig.database.db.insert(notices).values({ id: `${event}/${id}`, tenant, event, run: null, session: null, [thing]: id, at: now })
    return id
  }
  const all = (tenant = 'default') => listDeliveries(rig.database.db, tenant, { limit: 1_000 })
  const only = async (): Promise<DeliveryRow> => {
    const [row, second] = await all()
    expect(second).toBeUndefined()
    if (!row) throw new Error('there is no message')
    return row
  }

  it('tells every webhook that wants to hear of it once, signed with the secret of each', async () => {
    const [a, b] = [await hook('a'), await hook('b', { events: ['run.failed', 'run.succeeded'] })]
    await hook('c', { events: ['run.failed'] })
    await hook('d', { enabled: false })
    await hook('e', { tenant: 'other' })
    const run = await happened()
    await drain()
    await drain()
    expect(receiver.heard.map(({ path }) => path).toSorted()).toEqual(['/a', '/b'])
    for (const { path, row } of [{ path: '/a', row: a }, { path: '/b', row: b }]) {
      const [heard] = receiver.at(path)
      const body = verified(heard!, secrets.get(row.id)!)
      expect(body).toMatchObject({ type: 'run.succeeded', timestamp: new Date(now).toISOString(), data: { id: run, status: 'succeeded', cost_usd: 0.5, result: null, result_truncated: false } })
      expect(heard!.headers['content-type']).toBe('application/json')
    }
    expect(await all()).toMatchObject([{ state: 'delivered', status: 204, attempts: 1, nextAt: null }, { state: 'delivered', status: 204 }])
    expect(await rig.database.db.select().from(notices)).toEqual([])
    expect(await outbox().due()).toBeUndefined()
  })

  it('tells the address that a request named of the endings of its run, with the secret that the tenant has for those', async () => {
    const webhook = { url: `${receiver.url}mine#here`, format: 'standard' } as const
    for (const event of ['run.started', 'run.succeeded'] as const) await happened(event, { webhook })
    await happened('run.started', { webhook: { ...webhook, events: ['run.started'] } })
    await drain()
    expect(receiver.heard.map(({ body }) => String(body['type'])).toSorted()).toEqual(['run.started', 'run.succeeded'])
    const row = await findWebhook(rig.database.db, 'default', REQUEST)
    const [secret] = await openSecrets(vault, row!, now)
    for (const heard of receiver.heard) verified(heard, secret!)
    expect(await all()).toMatchObject([{ webhook: null }, { webhook: null }])
  })

  it('tells of sessions, those that are gone by now too', async () => {
    await hook('')
    const id = await happened('session.deleted', { session: true })
    await drain()
    expect(receiver.heard).toMatchObject([{ body: { type: 'session.deleted', data: { id } } }])
  })

  it('tells what cannot be told with its result yet later, and without it when that takes too long', async () => {
    await hook('')
    await happened()
    const away: Records = { ...storeRecords(rig.database), event: () => Promise.reject(new Error('away')) }
    await rig.database.db.update(runs).set({ resultSeq: 1 })
    await drain({ records: () => away })
    expect(receiver.heard).toEqual([])
    now += 11 * 60_000
    await drain({ records: () => away })
    expect(receiver.heard).toMatchObject([{ body: { data: { status: 'succeeded', result: null } } }])
  })

  it('is the same message when two processes make and send it at once, and arrives once', async () => {
    for (let n = 0; n < 4; n++) await hook(`h${n}`)
    for (let n = 0; n < 25; n++) await happened()
    await Promise.all([drain(), drain(), drain(), drain()])
    expect(receiver.heard).toHaveLength(100)
    expect(new Set(receiver.heard.map(({ id }) => id)).size).toBe(100)
    expect((await all()).every(({ state, attempts }) => state === 'delivered' && attempts === 1)).toBe(true)
  })

  it('loses nothing and makes nothing twice when a process dies, at whichever step', async () => {
    await hook('')
    await happened()
    // Between what happened and its messages: neither or both are there.
    const dies = { ...rig.database, batch: () => Promise.reject(new Error('killed')) }
    await drain({ store: () => dies })
    expect([await rig.database.db.select().from(notices), await all(), receiver.heard]).toMatchObject([[{ event: 'run.succeeded' }], [], []])
    // Behind the claim: it sends, and is not there any more for the answer.
    const never: Post = (request) => dialler.post(request).then(() => new Promise(() => undefined))
    const dead = outbox({ post: never })
    await dead.pass()
    await expect.poll(() => receiver.heard.length).toBe(1)
    await drain()
    expect(receiver.heard).toHaveLength(1)
    now += CLAIM_MS
    await drain()
    expect(receiver.heard).toHaveLength(2)
    expect(new Set(receiver.heard.map(({ id, text }) => `${id} ${text}`)).size).toBe(1)
    expect(await only()).toMatchObject({ state: 'delivered', attempts: 2 })
  })

  it('tries again after a 500, and says in between when', async () => {
    await hook('')
    await happened()
    receiver.replies = (_path, nth) => (nth === 1 ? 500 : 200)
    await drain()
    expect(await only()).toMatchObject({ state: 'pending', status: 500, error: null, attempts: 1, nextAt: now + 5_000, claimedUntil: null })
    expect(await outbox().due()).toBe(now + 5_000)
    now += 4_999
    await drain()
    expect(receiver.heard).toHaveLength(1)
    now += 1
    await drain()
    expect(await only()).toMatchObject({ state: 'delivered', status: 200, attempts: 2, nextAt: null })
    const [first, second] = receiver.heard
    expect([second?.id, second?.text]).toEqual([first?.id, first?.text])
  })

  it('gives up within a day, and begins anew when somebody asks for it', async () => {
    await hook('')
    await happened()
    receiver.replies = () => 503
    const begun = now
    while ((await outbox().due()) !== undefined) {
      now = (await outbox().due()) ?? now
      await drain()
    }
    expect(receiver.heard).toHaveLength(MAX_ATTEMPTS)
    expect((now - begun) / HOUR_MS).toBeGreaterThan(20)
    expect((now - begun) / HOUR_MS).toBeLessThan(24)
    const failed = await only()
    expect(failed).toMatchObject({ state: 'failed', status: 503, attempts: MAX_ATTEMPTS, nextAt: null })
    receiver.replies = () => 200
    await rig.database.batch([redelivery(rig.database.db, failed, now)])
    await drain()
    expect(await only()).toMatchObject({ state: 'delivered', attempts: 1 })
    expect(new Set(receiver.heard.map(({ id }) => id)).size).toBe(1)
  })

  it.each([
    [301, 'pending', 'redirects are not followed'],
    [404, 'pending', null],
    [410, 'failed', 'the receiver wants nothing more of it'],
  ] as const)('takes a %d for %s', async (status, state, error) => {
    await hook('')
    await happened()
    receiver.replies = () => ({ status, headers: { location: `${receiver.url}elsewhere` } })
    await drain()
    expect(await only()).toMatchObject({ state, status, error })
    expect(receiver.heard).toHaveLength(1)
  })

  it('waits as long as a busy receiver asks for', async () => {
    await hook('')
    await happened()
    receiver.replies = () => ({ status: 429, headers: { 'retry-after': '120' } })
    await drain()
    expect(await only()).toMatchObject({ state: 'pending', nextAt: now + 120_000 })
  })

  it('is not held up by receivers that never answer, in whatever number', async () => {
    for (let n = 0; n < 6; n++) await hook(`dead${n}`)
    const dead = await openReceiver(() => 'silence')
    for (let n = 0; n < 6; n++) await hook(`x`, { url: `${dead.url}${n}` })
    receiver.replies = (path) => (path === '/alive' ? 200 : 'silence')
    for (let n = 0; n < 8; n++) await happened()
    const alive = await openReceiver()
    await hook('y', { url: `${alive.url}alive` })
    await hook('y', { url: `${alive.url}alive`, tenant: 'other' })
    await happened('run.succeeded', { tenant: 'other' })
    const sending = outbox({ most: { here: 20, perTenant: 12, perHost: 4 } })
    const begun = performance.now()
    await sending.pass()
    // What is there for them does not wait for the end of any that hang, which takes a second each.
    await expect.poll(() => alive.heard.length, { timeout: 900, interval: 10 }).toBeGreaterThanOrEqual(5)
    expect(performance.now() - begun).toBeLessThan(900)
    expect([receiver.heard.length, dead.heard.length]).toEqual([4, 4])
    await sending.close(0)
    expect((await all()).filter(({ state }) => state === 'pending').every(({ nextAt }) => nextAt !== null)).toBe(true)
    await Promise.all([dead.close(), alive.close()])
  })

  it('tells a receiver that does not answer from one that cannot be reached', async () => {
    receiver.replies = () => 'silence'
    await hook('')
    await happened()
    await drain()
    expect(await only()).toMatchObject({ state: 'pending', status: null, error: 'no answer in time' })
    now += CLAIM_MS
    await receiver.close()
    await drain()
    expect(await only()).toMatchObject({ attempts: 2, error: 'the receiver could not be reached' })
    receiver = await openReceiver()
  })

  it('calls no private address from the moment on that nobody allows it any more', async () => {
    await hook('')
    await happened()
    await allow({ allow_private: false, timeout_s: 1 })
    await drain()
    expect(await only()).toMatchObject({ state: 'pending', status: null, error: 'the address is not one of the public internet' })
    for (let n = 1; n < MAX_REFUSALS; n++) {
      now += CLAIM_MS
      await drain()
    }
    // Not for a day, like a receiver that may come back.
    expect(await only()).toMatchObject({ state: 'failed', attempts: MAX_REFUSALS, nextAt: null, error: 'the address is not one of the public internet' })
    expect(receiver.heard).toEqual([])
  })

  it('of a webhook that was disabled or deleted meanwhile is not sent, and of one that moved goes to the new place', async () => {
    const [disabled, deleted, moved] = [await hook('a'), await hook('b'), await hook('c')]
    await happened()
    receiver.replies = () => 500
    await drain()
    const { db } = rig.database
    const moves = [webhookChange(db, disabled, { enabled: false }, now), webhookDeletion(db, deleted), webhookChange(db, moved, { url: `${receiver.url}d` }, now)]
    await rig.database.batch(moves.flat())
    receiver.replies = () => 200
    now += CLAIM_MS
    await drain()
    const [a, b, c] = (await all()).toSorted((x, y) => (x.webhook! < y.webhook! ? -1 : 1))
    expect([a, b]).toMatchObject([{ state: 'failed', error: 'the webhook is disabled' }, { state: 'failed', error: 'the webhook was deleted' }])
    expect(c).toMatchObject({ state: 'delivered' })
    expect(receiver.heard.slice(3).map(({ path }) => path)).toEqual(['/d'])
  })

  it('leaves what it was sending to whoever comes next when it is stopped', async () => {
    receiver.replies = () => 'silence'
    await hook('')
    await happened()
    const stopped = outbox()
    await stopped.pass()
    await expect.poll(() => receiver.heard.length).toBe(1)
    await stopped.close(0)
    expect(await stopped.pass()).toBe(0)
    receiver.replies = () => 200
    await drain()
    expect(await only()).toMatchObject({ state: 'delivered', attempts: 2 })
  })

  it('forgets what was settled after 30 days, the bodies of what was taken after 3, and nothing that waits', async () => {
    await hook('a')
    await hook('b')
    await happened()
    receiver.replies = (path) => (path === '/a' ? 200 : 500)
    await drain()
    await pruneDeliveries(rig.database.db, now + 2 * 24 * HOUR_MS)
    expect((await all()).every(({ body }) => body !== null)).toBe(true)
    await pruneDeliveries(rig.database.db, now + 29 * 24 * HOUR_MS)
    expect((await all()).map(({ state, body }) => `${state} ${body === null}`).toSorted()).toEqual(['delivered true', 'pending false'])
    await pruneDeliveries(rig.database.db, now + 31 * 24 * HOUR_MS)
    expect(await all()).toMatchObject([{ state: 'pending' }])
  })

  it('goes on when the master key has been changed and the old one taken away', async () => {
    const row = await hook('')
    const old = newKeyRing('old')
    vault = await openVault(old)
    await rig.database.db.update(webhooks).set(await sealSecret(vault, row, secrets.get(row.id)!)).where(eq(webhooks.id, row.id))
    const ring = withNewKey(old, 'new')
    vault = await openVault(ring)
    expect(await countSealedByOthers(rig.database.db, 'new')).toBe(1)
    await resealWebhooks({ store: rig.database, vault, log: quiet })
    expect(await countSealedByOthers(rig.database.db, 'new')).toBe(0)
    vault = await openVault({ ...ring, keys: ring.keys.slice(0, 1) })
    await happened()
    await drain()
    verified(receiver.heard[0]!, secrets.get(row.id)!)
  })

  it('costs one look where there is nothing to do', async () => {
    expect(await outbox().due()).toBeUndefined()
    expect(await rig.database.db.select().from(webhooks)).toEqual([])
    expect(await rig.database.db.select().from(deliveries)).toEqual([])
  })
})
