/** What becomes messages and what does not, on a real database. The network is the test's; what it says is 500 unless told otherwise. */
import { eq } from 'drizzle-orm'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { notices, runEvents, runs, sessions } from '../../drizzle/schema.ts'
import { openLog, type LogRig } from '../../test/kit/log.ts'
import { newKeyRing, openVault } from '../guard/vault.ts'
import type { Log, Store, Vault } from '../ports.ts'
import { findDelivery, listDeliveries, redelivery } from '../store/deliveries.ts'
import { storeRecords } from '../store/records.ts'
import { deleteSessions, isSession } from '../store/sessions.ts'
import { insertWebhook, listWebhooks, type WebhookRow } from '../store/webhooks.ts'
import { makeMessages, MAX_WEBHOOKS, type MakeParts } from './make.ts'
import { Outbox } from './outbox.ts'
import { newSecret, sealSecret } from './secret.ts'

const quiet: Log = { info: () => undefined, warn: () => undefined, error: () => undefined }
const SESSION = '00000000-0000-4000-8000-00000000000a'

describe('messages', () => {
  let log: LogRig
  let vault: Vault
  let now: number
  let status: number
  let sent: { readonly url: string; readonly body: string }[]
  let hooks: number
  let meanwhile: () => Promise<unknown>
  beforeEach(async () => {
    log = await openLog()
    vault = await openVault(newKeyRing('test'))
    now = 1_800_000_000_000
    status = 500
    sent = []
    hooks = 0
    meanwhile = () => Promise.resolve()
  })
  afterEach(() => log.close())

  async function hook(url: string): Promise<WebhookRow> {
    const place = { tenant: 'default', id: `whk_${String(++hooks).padStart(32, '0')}` }
    const row = { ...place, url, ...(await sealSecret(vault, place, newSecret())), events: null, format: 'standard', enabled: true, createdAt: now, updatedAt: now } as const
    await log.database.batch([insertWebhook(log.database.db, row, MAX_WEBHOOKS)])
    return row
  }
  async function happened(): Promise<string> {
    const run = await log.run()
    await log.database.db.update(runs).set({ session: SESSION, metadata: { note: 'secret' }, runner: 'rnr_1', state: 'succeeded', resultSeq: 1 }).where(eq(runs.id, run))
    await log.database.db.insert(runEvents).values({ run, first: 1, count: 1, kind: 'ev', bytes: new TextEncoder().encode('{"result":"secret"}\n') })
    await log.database.db.insert(notices).values({ id: `run.succeeded/${run}`, tenant: 'default', event: 'run.succeeded', run, session: SESSION, at: now })
    return run
  }
  const make = (more: Partial<MakeParts> = {}) => makeMessages({ store: log.database, records: storeRecords(log.database), log: quiet, ...more }, now)
  const send = () =>
    new Outbox({
      store: () => log.database,
      records: () => storeRecords(log.database),
      vault: () => vault,
      platform: { now: () => now, random: () => 0 },
      log: quiet,
      async post({ url, body }) {
        sent.push({ url, body })
        await meanwhile()
        return { status, retryAfter: undefined }
      },
      most: { here: 32, perTenant: 16, perHost: 8 },
    }).drain(Infinity)
  const all = () => listDeliveries(log.database.db, 'default', { limit: 100 })

  it('wait in such a number for one receiver and no more, and can be sent when somebody asks for them', async () => {
    await hook('https://down.example/a')
    for (let n = 0; n < 5; n++) {
      // Of another receiver there is room all the time.
      if (n === 4) await hook('https://up.example/b')
      await happened()
      await make({ mostWaiting: 3 })
    }
    const refused = (await all()).filter(({ state }) => state === 'failed')
    expect(refused).toMatchObject([1, 2].map(() => ({ url: 'https://down.example/a', attempts: 0, nextAt: null, error: 'too many messages wait for this receiver' })))
    expect((await all()).filter(({ state }) => state === 'pending').map(({ url }) => new URL(url).pathname).toSorted()).toEqual(['/a', '/a', '/a', '/b'])
    status = 200
    await log.database.batch(refused.map((one) => redelivery(log.database.db, one, now)))
    await send()
    expect((await all()).map(({ state, error }) => `${state} ${String(error)}`)).toEqual(Array.from({ length: 6 }, () => 'delivered null'))
  })

  it('tell nothing any more of what was said in a session that was deleted, on whatever way they were', async () => {
    const { db } = log.database
    await hook('https://up.example/')
    await db.insert(sessions).values({ id: SESSION, tenant: 'default', title: 'secret', createdAt: 1, updatedAt: 1, lastRunAt: 1 })
    status = 200
    await happened()
    await send()
    status = 500
    await happened()
    await send()
    expect(sent.map(({ body }) => (JSON.parse(body) as { data: object }).data)).toMatchObject([{ result: 'secret' }, { result: 'secret' }])
    const last = await happened()
    // The third is just being made when the session goes: its facts are read, and the message is not written yet.
    let isFirst = true
    const store: Store = {
      ...log.database,
      async batch(statements) {
        if (isFirst) expect(await deleteSessions(log.database, isSession('default', SESSION), now)).toBe(1)
        isFirst = false
        return log.database.batch(statements)
      },
    }
    await db.update(runs).set({ endedAt: 1 })
    await make({ store })
    expect((await all()).toSorted((a, b) => (a.state < b.state ? -1 : 1))).toMatchObject([
      { state: 'delivered', body: null, error: null },
      { state: 'failed', body: null, nextAt: null, error: 'the session was deleted' },
    ])
    sent = []
    status = 200
    for (const row of await all()) await log.database.batch([redelivery(db, row, now)])
    await send()
    const told = sent.map(({ body }) => JSON.parse(body) as { type: string; data: object }).toSorted((a, b) => (a.type < b.type ? -1 : 1))
    expect(told).toMatchObject([{ type: 'run.succeeded', data: { id: last, status: 'succeeded', result: null, metadata: null } }, { type: 'session.deleted', data: { id: SESSION } }])
    expect(JSON.stringify(sent)).not.toContain('secret')
  })

  it('of a session that is deleted while one is on its way are over, whatever the receiver says', async () => {
    await hook('https://up.example/')
    await log.database.db.insert(sessions).values({ id: SESSION, tenant: 'default', createdAt: 1, updatedAt: 1, lastRunAt: 1 })
    await happened()
    await log.database.db.update(runs).set({ endedAt: 1 })
    await make()
    const [row] = await all()
    meanwhile = () => deleteSessions(log.database, isSession('default', SESSION), now)
    await send()
    now += 60_000
    await send()
    expect(await findDelivery(log.database.db, 'default', row!.id)).toMatchObject({ state: 'failed', body: null, error: 'the session was deleted', attempts: 1 })
    expect(sent.filter(({ body }) => body.includes('run.succeeded'))).toHaveLength(1)
  })
})

describe('the webhooks of a tenant', () => {
  it('are never more than there may be, however many are made at once', async () => {
    const log = await openLog()
    const row = (id: string) => ({ tenant: 'default', id, url: 'https://x.example/', sealedSecret: '', sealedBy: '', events: null, format: 'standard', enabled: true, createdAt: 1, updatedAt: 1 }) as const
    const made = await Promise.allSettled(['a', 'b', 'c', 'd'].map((id) => log.database.batch([insertWebhook(log.database.db, row(id), 2)])))
    expect(made.filter(({ status }) => status === 'fulfilled')).toHaveLength(2)
    expect(await listWebhooks(log.database.db, 'default', undefined, 10)).toHaveLength(2)
    await log.close()
  })
})
