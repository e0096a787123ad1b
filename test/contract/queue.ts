/** Runs that wait for a slot: in which order, how long, and what becomes of them. */
import { beforeEach, describe, expect, it } from 'vitest'
import { Fault } from '../../shared/faults.ts'
import type { Fleet } from '../kit/fleet.ts'
import type { Host } from '../kit/host.ts'
import { idsOf, readSse, SSE } from '../kit/sse.ts'
import { gate, type Gate } from '../kit/turns.ts'
import { until } from '../kit/wait.ts'
import { tenantEach } from './tenants.ts'

export function queue(host: Host): void {
  describe('a run that finds no free slot', () => {
    const current = tenantEach(host)
    let fleet: Fleet
    let cli: Gate
    beforeEach(() => {
      fleet = current()
      cli = gate()
    })

    it('waits its turn by priority, then age, and says where it stands', async () => {
      await fleet.runner({ turn: cli.turn, slots: 1 })
      await fleet.start({ prompt: 'first' })
      await cli.running('first')
      const b = await fleet.start({ prompt: 'b' })
      const c = await fleet.start({ prompt: 'c' })
      const urgent = await fleet.start({ prompt: 'urgent', priority: 9 })
      expect([b, c].map((r) => r.status)).toEqual(['queued', 'queued'])
      await until('the order to be seen', async () => (await fleet.get(c.id)).queue_position === 3)
      expect((await fleet.get(urgent.id)).queue_position).toBe(1)
      expect((await fleet.get(b.id)).queue_position).toBe(2)
      for (const prompt of ['first', 'urgent', 'b', 'c']) await cli.finish(prompt)
      expect(await fleet.until(c.id, 'succeeded')).not.toHaveProperty('queue_position')
      expect(cli.order).toEqual(['first', 'urgent', 'b', 'c'])
    })

    it('shows its place on its events route, without an id, and goes on into the stream', async () => {
      await fleet.runner({ turn: cli.turn, slots: 1 })
      await fleet.start({ prompt: 'first' })
      await cli.running('first')
      const { id } = await fleet.start({ prompt: 'second' })
      const reading = readSse(await fleet.call(`/v1/runs/${id}/events`))
      await cli.finish('first')
      await cli.finish('second')
      const { events } = await reading
      const queued = events.filter((e) => e.event === 'queued')
      expect(queued[0]).toMatchObject({ id: undefined, data: '{"position":1}' })
      expect(idsOf(events.filter((e) => e.event !== 'queued'))).toEqual([1, 2, 3])
    })

    it('holds the status line of an interactive request until there is a slot', async () => {
      await fleet.runner({ turn: cli.turn, slots: 1 })
      await fleet.start({ prompt: 'first' })
      await cli.running('first')
      const waiting = fleet.run({ prompt: 'second' }, SSE)
      await until('it to wait', async () => (await fleet.list('?status=queued')).length === 1)
      await cli.finish('first')
      const response = await waiting
      expect(response.status).toBe(200)
      await cli.finish('second')
      expect((await readSse(response)).events.at(-1)!.event).toBe('done')
    })

    it('answers 429 with Retry-After when no slot came free in time, and leaves nothing behind', async () => {
      await fleet.runner({ turn: cli.turn, slots: 1 })
      const first = await fleet.start({ prompt: 'first' })
      await cli.running('first')
      const response = await fleet.run({ prompt: 'second', queue_timeout_s: 0 }, SSE)
      expect(response.status).toBe(429)
      expect(Number(response.headers.get('retry-after'))).toBeGreaterThan(0)
      expect(await response.json()).toMatchObject({ code: 'busy', retryable: true })
      expect((await fleet.list()).map((r) => r.id)).toEqual([first.id])
      await cli.finish('first')
    })

    it('ends as a run when its id was given out and its time in the line is over', async () => {
      await fleet.runner({ turn: cli.turn, slots: 1 })
      await fleet.start({ prompt: 'first' })
      await cli.running('first')
      const { id } = await fleet.start({ prompt: 'second', queue_timeout_s: 1 })
      expect(await fleet.until(id, 'failed')).toMatchObject({ error: { code: 'queue_timeout' } })
      const { events } = await readSse(await fleet.call(`/v1/runs/${id}/events`))
      expect(events.map((e) => e.event)).toEqual(['done'])
      expect(cli.order).toEqual(['first'])
    })

    it('answers 503 when no runner fits, and waits for one that is on its way', async () => {
      const none = await fleet.run({ prompt: 'x', pool: 'gpu', labels: { os: 'plan9' }, queue_timeout_s: 0 })
      expect(none.status).toBe(503)
      const detail = expect.stringContaining('pool gpu with labels os=plan9') as string
      expect(await none.json()).toMatchObject({ code: 'no_runner', detail })
      const waiting = fleet.run({ prompt: 'early' }, SSE)
      await fleet.runner({ turn: cli.turn })
      await cli.finish('early')
      expect((await waiting).status).toBe(200)
    })

    it('goes to a runner of its pool that carries its labels, and to no other', async () => {
      const right = await fleet.runner({ name: 'right', pool: 'gpu', labels: { os: 'linux', size: 'xl' }, turn: cli.turn })
      await fleet.runner({ name: 'label', pool: 'gpu', labels: { os: 'linux' }, turn: cli.turn })
      await fleet.runner({ name: 'pool', labels: { os: 'linux', size: 'xl' }, turn: cli.turn })
      const { id } = await fleet.start({ prompt: 'x', pool: 'gpu', labels: { size: 'xl' } })
      await cli.finish('x')
      expect(await fleet.until(id, 'succeeded')).toMatchObject({ runner_id: right.id })
    })

    it('can be cancelled while it waits, and ends as a run', async () => {
      await fleet.runner({ turn: cli.turn, slots: 1 })
      await fleet.start({ prompt: 'first' })
      await cli.running('first')
      const { id } = await fleet.start({ prompt: 'second' })
      expect((await fleet.call(`/v1/runs/${id}/cancel`, { method: 'POST' })).status).toBe(200)
      expect(await fleet.get(id)).toMatchObject({ status: 'cancelled', error: { code: 'cancelled' } })
      const { events } = await readSse(await fleet.call(`/v1/runs/${id}/events`))
      expect(events.map((e) => e.event)).toEqual(['done'])
      await cli.finish('first')
      expect(cli.order).toEqual(['first'])
    })

    it('is not forgotten to be cancelled when that came while it was being offered', async () => {
      let refuse: () => void = () => undefined
      const asked = new Promise<void>((resolve) => (refuse = resolve))
      let offers = 0
      await fleet.runner({
        turn: cli.turn,
        slots: 1,
        prepare: async () => {
          offers++
          await asked
          throw new Fault('busy')
        },
      })
      const posted = fleet.run({ prompt: 'x' }, { prefer: 'respond-async' })
      await until('the offer', () => offers > 0)
      const { id } = await until('its row', async () => (await fleet.list())[0])
      await fleet.get(id)
      await fleet.call(`/v1/runs/${id}/cancel`, { method: 'POST' })
      refuse()
      await posted
      expect(await fleet.until(id, 'cancelled')).toMatchObject({ error: { code: 'cancelled' } })
    })
  })

  describe('a session in the line', () => {
    const current = tenantEach(host)
    let fleet: Fleet
    let cli: Gate
    beforeEach(() => {
      fleet = current()
      cli = gate()
    })

    it('has one turn at a time, queued or refused as the caller likes', async () => {
      await fleet.runner({ turn: cli.turn, slots: 4 })
      const { session_id: session } = await fleet.start({ prompt: 'first' })
      await cli.running('first')
      const refused = await fleet.run({ prompt: 'no', session_id: session, on_busy: 'reject' })
      expect(refused.status).toBe(409)
      expect(await refused.json()).toMatchObject({ code: 'session_busy' })
      const second = await fleet.start({ prompt: 'second', session_id: session })
      const third = await fleet.start({ prompt: 'third', session_id: session })
      expect((await fleet.get(second.id)).status).toBe('queued')
      for (const prompt of ['first', 'second', 'third']) await cli.finish(prompt)
      await fleet.until(third.id, 'succeeded')
      expect(cli.order).toEqual(['first', 'second', 'third'])
    })

    it('is passed by while it has a turn in progress', async () => {
      await fleet.runner({ turn: cli.turn, slots: 2 })
      const { session_id: session } = await fleet.start({ prompt: 's1' })
      await cli.running('s1')
      await fleet.start({ prompt: 'y' })
      await cli.running('y')
      const waiting = await fleet.start({ prompt: 's2', session_id: session })
      await fleet.start({ prompt: 'x' })
      await cli.finish('y')
      await cli.running('x')
      expect((await fleet.get(waiting.id)).status).toBe('queued')
      await cli.finish('s1')
      await cli.running('s2')
      for (const prompt of ['x', 's2']) await cli.finish(prompt)
      await fleet.until(waiting.id, 'succeeded')
    })
  })

  describe('forty runs over four runners with ten slots each', () => {
    const current = tenantEach(host)

    it('fill them evenly; the next one waits for a slot or is told that there is none', async () => {
      const fleet = current()
      const cli = gate()
      for (let n = 1; n <= 4; n++) await fleet.runner({ name: `r${n}`, turn: cli.turn, slots: 10 })
      const prompts = Array.from({ length: 40 }, (_, i) => `run ${i}`)
      await Promise.all(prompts.map((prompt) => fleet.start({ prompt })))
      await Promise.all(prompts.map((prompt) => cli.running(prompt)))
      await until('the slots to be counted', async () => (await fleet.runners()).every(({ busy }) => busy === 10))
      const busy = await fleet.run({ prompt: 'too many', queue_timeout_s: 0 })
      expect([busy.status, await busy.json()]).toMatchObject([429, { code: 'busy' }])
      const next = await fleet.start({ prompt: 'next' })
      expect(next.status).toBe('queued')
      await cli.finish('run 17')
      await cli.running('next')
      for (const prompt of prompts) if (prompt !== 'run 17') await cli.finish(prompt)
      await cli.finish('next')
      await fleet.until(next.id, 'succeeded')
      await until('all slots to be free', async () => (await fleet.runners()).every((runner) => runner.busy === 0))
      expect((await fleet.list('?status=succeeded&limit=100')).length).toBe(41)
    })
  })
}
