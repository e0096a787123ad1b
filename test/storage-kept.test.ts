/** A database that keeps a change and reports it as failed: whoever asked for it finds out, and nobody waits for a restart. */
import { sql } from 'drizzle-orm'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Store } from '../router/ports.ts'
import type { Fleet } from './kit/fleet.ts'
import { startNodeFleet, type OpenNodeHost } from './kit/host-node.ts'
import { keepAndFail } from './kit/kept.ts'
import { held, RawRunner, type RawLink } from './kit/raw-runner.ts'
import { until } from './kit/wait.ts'

const NOT_STARTED = { code: null, reason: 'not_started', result: undefined, duration_ms: 0 } as const
/** By what they set. */
const TAKE = /update "runs" set(?:(?!where).)*runner(?:(?!where).)*fence/i
const RETURN = /update "runs" set(?:(?!where|fence).)*runner(?:(?!where|fence).)*where/i
const LEASE = /insert into "sessions"/i
const INSERT = /insert into "runs"/i
const DROP = /delete from "runs"/i
const END = /"cancelled"/
const LOOK = /select .* from "runs" where \("runs"\."id" = \? and "runs"\."tenant" = \?\)/i
const CONFIG = /select .* from "config_sets"/i

let fleet: Fleet<OpenNodeHost>
let store: Store
let runner: RawRunner
let link: RawLink
beforeEach(async () => {
  fleet = await startNodeFleet()
  ;({ store } = fleet.host.router.deps)
  runner = await RawRunner.enlist(fleet)
  link = await runner.connect()
})
afterEach(async () => {
  await link.cut()
  await fleet.close()
})

const cancel = (id: string) => fleet.call(`/v1/runs/${id}/cancel`, { method: 'POST' })

/** What is held for runs. */
const reserved = async () => (await store.db.all<{ run: string }>(sql`SELECT run FROM reservations WHERE settled_at IS NULL`)).map(({ run }) => run)

/** The id of a run of which nobody knows whether it is there. */
async function unknown(asked: Promise<Response>): Promise<string> {
  const response = await asked
  const body = (await response.json()) as { run_id: string }
  expect([response.status, response.headers.get('x-should-retry'), body]).toMatchObject([503, 'false', { code: 'storage', retryable: false }])
  return body.run_id
}

/** A run in the only slot. */
async function taken() {
  const [, offer] = await Promise.all([fleet.start({ prompt: 'first' }), link.begin()])
  await link.acked(offer, 1)
  return offer
}

/** And one that waits behind it. */
async function oneWaits() {
  return { offer: await taken(), second: await fleet.start({ prompt: 'second' }) }
}

describe('a database that reports a change as failed', () => {
  it.each([['kept', false], ['not kept', true]])('when a run that never started goes back to the line: it is offered again, the change being %s', async (_what, lost) => {
    const [{ id }, offer] = await Promise.all([fleet.start({ prompt: 'x' }), link.accept()])
    const trouble = keepAndFail(store, RETURN, { lost })
    link.exit(offer, 1, NOT_STARTED)
    await link.closed
    expect(trouble.count).toBe(1)
    link = await runner.connect({ runs: [held(offer, 'exited', 1)] })
    link.exit(offer, 1, NOT_STARTED)
    const again = await link.begin()
    expect(again).toMatchObject({ run: id, fence: 2 })
    link.exit(again, 2)
    await fleet.until(id, 'succeeded')
  })

  it('when a run goes back to the line whose runner stays away: another one gets it', async () => {
    const [{ id }, offer] = await Promise.all([fleet.start({ prompt: 'x' }), link.accept()])
    keepAndFail(store, RETURN)
    link.exit(offer, 1, NOT_STARTED)
    await link.closed
    link = await (await RawRunner.enlist(fleet)).connect()
    expect(await link.begin()).toMatchObject({ run: id, fence: 2 })
  })

  it('when a run is taken out of the line: it is offered, once', async () => {
    const { offer, second } = await oneWaits()
    const trouble = keepAndFail(store, TAKE)
    link.exit(offer, 2)
    expect(await link.begin()).toMatchObject({ run: second.id, fence: 1 })
    expect(trouble.count).toBe(1)
  })

  it('when a run is taken out of the line, and somebody ends it before that is known: it never starts', async () => {
    const { offer, second } = await oneWaits()
    const trouble = keepAndFail(store, TAKE, { once: false })
    link.exit(offer, 2)
    await until('it to be taken', () => trouble.count > 0)
    expect((await cancel(second.id)).status).toBe(202)
    trouble.over()
    await fleet.until(second.id, 'cancelled')
    expect(link.received.some(({ t }) => t === 'offer')).toBe(false)
  })

  it('when it is asked why a run could not be taken: it is asked again', async () => {
    const { offer, second } = await oneWaits()
    await store.db.run(sql`UPDATE runs SET cancel_requested_at = 1 WHERE id = ${second.id}`)
    const trouble = keepAndFail(store, /select .*"cancel_requested_at" is not null/)
    link.exit(offer, 2)
    await fleet.until(second.id, 'cancelled')
    expect(trouble.count).toBe(1)
  })

  it('at the lease of a run that is over before that is known: its session takes the next turn', async () => {
    const lease = keepAndFail(store, LEASE)
    const asked = fleet.run({ prompt: 'first' }, { prefer: 'respond-async' })
    const offer = await link.next('offer')
    const trouble = keepAndFail(store, RETURN, { once: false })
    link.send({ t: 'accept', re: offer.id, run: offer.run, fence: offer.fence, cwd: '/work' })
    await link.closed
    expect([lease.count, (await asked).status]).toEqual([1, 503])
    link = await runner.connect()
    await fleet.until(offer.run, 'lost')
    expect(trouble.count).toBeGreaterThan(0)
    trouble.over()
    const [next] = await Promise.all([link.begin(), fleet.start({ prompt: 'next', session_id: offer.spec.session.id })])
    expect(next.spec.prompt).toBe('next')
  })

  it('when a run is submitted that is offered at once: it is a run like any other', async () => {
    const trouble = keepAndFail(store, INSERT)
    const [{ id }, offer] = await Promise.all([fleet.start({ prompt: 'x' }), link.begin()])
    expect([offer, trouble.count]).toMatchObject([{ run: id, fence: 1 }, 1])
  })

  it('when a run is submitted that has to wait: it is a run like any other', async () => {
    const offer = await taken()
    const trouble = keepAndFail(store, INSERT)
    const { id } = await fleet.start({ prompt: 'x' })
    link.exit(offer, 2)
    expect([await link.begin(), trouble.count]).toMatchObject([{ run: id, fence: 1 }, 1])
  })

  it.each(['at once', 'later'])('when a run is submitted, and at the first look for it, to be offered %s: it is a run like any other', async (when) => {
    await fleet.call(`/admin/v1/limits?tenant=${fleet.tenant}`, { method: 'PUT', token: fleet.adminToken, body: '{"concurrent_runs":5}' })
    const first = when === 'later' ? await taken() : undefined
    const [insert, look] = [keepAndFail(store, INSERT), keepAndFail(store, LOOK)]
    const id = await unknown(fleet.run({ prompt: 'x' }, { prefer: 'respond-async', 'idempotency-key': 'k' }))
    expect([insert.count, look.count]).toEqual([1, 1])
    if (first) link.exit(first, 2)
    const offer = await link.begin()
    expect([offer.run, await reserved()]).toEqual([id, [id]])
    const again = await fleet.run({ prompt: 'x' }, { prefer: 'respond-async', 'idempotency-key': 'k' })
    expect(await again.json()).toMatchObject({ id, status: 'running' })
    link.exit(offer, 2)
    await fleet.until(id, 'succeeded')
  })

  it('when a run is submitted that was not kept, and at the looks for it: nothing of it is left', async () => {
    await fleet.call(`/admin/v1/limits?tenant=${fleet.tenant}`, { method: 'PUT', token: fleet.adminToken, body: '{"concurrent_runs":1}' })
    keepAndFail(store, INSERT, { lost: true })
    const look = keepAndFail(store, LOOK, { once: false })
    const id = await unknown(fleet.run({ prompt: 'x' }, { prefer: 'respond-async', 'idempotency-key': 'k' }))
    await until('a second look', () => look.count === 2)
    expect(await reserved()).toEqual([id])
    look.over()
    await until('its room to be free', async () => (await reserved()).length === 0)
    const [again, offer] = await Promise.all([fleet.start({ prompt: 'x' }, { 'idempotency-key': 'k' }), link.begin()])
    expect(offer.run).toBe(again.id)
    expect(again.id).not.toBe(id)
  })

  it('when the first run of a session is submitted, and at the first look for it: no other one opens the session', async () => {
    const { id: session_id } = (await (await fleet.call('/v1/sessions', { method: 'POST', body: '{}' })).json()) as { id: string }
    keepAndFail(store, INSERT)
    keepAndFail(store, LOOK)
    const id = await unknown(fleet.run({ prompt: 'x', session_id }, { prefer: 'respond-async' }))
    const offer = await link.next('offer')
    expect([offer.run, (await fleet.run({ prompt: 'y', session_id })).status]).toEqual([id, 409])
  })

  it('when a run that waits is ended: it is, and its session takes the next turn', async () => {
    const offer = await taken()
    const session_id = offer.spec.session.id
    const { id } = await fleet.start({ prompt: 'second', session_id })
    const trouble = keepAndFail(store, END)
    await cancel(id)
    await fleet.until(id, 'cancelled')
    const next = await fleet.start({ prompt: 'next', session_id })
    link.exit(offer, 2)
    expect([await link.begin(), trouble.count]).toMatchObject([{ run: next.id }, 1])
  })
})

describe('a database that does not take the end of a run that was refused', () => {
  it('has it end as a run, as whoever asked was told that it waits', async () => {
    const trouble = keepAndFail(store, DROP, { lost: true })
    const asked = fleet.run({ prompt: 'x' }, { prefer: 'respond-async' })
    const { id: re, run, fence } = await link.next('offer')
    link.send({ t: 'reject', re, run, fence, code: 'cwd', message: 'not there' })
    const response = await asked
    expect([response.status, await response.json()]).toMatchObject([503, { code: 'storage', run_id: run }])
    expect(await fleet.until(run, 'failed')).toMatchObject({ error: { code: 'rejected', message: 'not there' } })
    expect(trouble.count).toBe(1)
  })
})

describe('a database that takes writes and does not say what an offer needs', () => {
  it('has the run offered again and again, with a pause in between', async () => {
    await link.cut()
    link = await runner.connect({ caps: ['config'] })
    const trouble = keepAndFail(store, CONFIG, { once: false })
    const began = performance.now()
    const id = await unknown(fleet.run({ prompt: 'x' }, { prefer: 'respond-async' }))
    const offers = async () => (await store.db.all<{ fence: number }>(sql`SELECT fence FROM runs WHERE id = ${id}`))[0]?.fence ?? 0
    await until('a third offer', async () => (await offers()) >= 3)
    // The second one may follow at the next tick; the third is half a second behind that.
    expect(performance.now() - began).toBeGreaterThan(450)
    trouble.over()
    expect(await link.begin()).toMatchObject({ run: id })
  })
})
