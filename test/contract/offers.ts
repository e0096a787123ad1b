/** What a runner answers to an offer, and what happens when it does not. */
import { beforeEach, describe, expect, it } from 'vitest'
import { Fault, FAULTS, type FaultCode } from '../../shared/faults.ts'
import { RunnerRefusal } from '../../shared/frames.ts'
import { LEASE_MS } from '../../shared/limits.ts'
import type { Fleet, Json } from '../kit/fleet.ts'
import { follow } from '../kit/follow.ts'
import type { Host } from '../kit/host.ts'
import { held, RawRunner } from '../kit/raw-runner.ts'
import { idsOf, readSse, SSE } from '../kit/sse.ts'
import { echo } from '../kit/turns.ts'
import { tenantEach } from './tenants.ts'

/** No verdict on the run: it waits for another runner. */
const FULL = new Set<FaultCode>(['busy', 'draining'])
const VERDICTS = RunnerRefusal.options.filter((code) => !FULL.has(code))

export function offers(host: Host): void {
  describe('a runner that refuses', () => {
    const current = tenantEach(host)

    it.each(VERDICTS)('with %s is heard before a stream begins, and nothing is left', async (code) => {
      const fleet = current()
      await fleet.runner({ turn: echo, prepare: () => Promise.reject(new Fault(code, `because of ${code}`)) })
      for (const headers of [SSE, { accept: 'application/json' }]) {
        const response = await fleet.run({ prompt: 'x', queue_timeout_s: 1 }, { ...headers, 'idempotency-key': 'k' })
        const problem = (await response.json()) as Json
        expect([response.status, problem]).toMatchObject([FAULTS[code].status, { code, detail: `because of ${code}` }])
      }
      expect(await fleet.list()).toEqual([])
    })

    it.each([...FULL])('with %s although it has free slots is not asked without end', async (code) => {
      const fleet = current()
      let asked = 0
      await fleet.runner({ turn: echo, prepare: () => Promise.reject(new Fault(code, `offer ${++asked}`)) })
      const response = await fleet.run({ prompt: 'x', queue_timeout_s: 1 })
      expect([response.status, await response.json()]).toMatchObject([429, { code: 'busy' }])
      expect(asked).toBeLessThan(20)
      expect(await fleet.list()).toEqual([])
    })

    it('for want of room leaves the run to the next one', async () => {
      const fleet = current()
      await fleet.runner({ name: 'full', turn: echo, prepare: () => Promise.reject(new Fault('busy', 'full')) })
      const free = await fleet.runner({ name: 'free', turn: echo })
      for (let n = 0; n < 8; n++) {
        const response = await fleet.run({ prompt: 'x' })
        expect(await response.json()).toMatchObject({ status: 'succeeded', runner_id: free.id })
      }
    })
  })

  describe('a runner that goes away', () => {
    const current = tenantEach(host)
    let fleet: Fleet
    let runner: RawRunner
    beforeEach(async () => {
      fleet = current()
      runner = await RawRunner.enlist(fleet)
    })

    it('before it accepts has started nothing: who comes next is asked again, under the next fence', async () => {
      const first = await runner.connect()
      const response = fleet.run({ prompt: 'x' }, SSE)
      const { run } = await first.next('offer')
      await first.cut()
      const second = await runner.connect()
      const again = await second.begin()
      expect(again).toMatchObject({ run, fence: 2 })
      second.lines(again, 2, ['{"ok":true}'])
      second.exit(again, 3)
      const { events } = await readSse(await response)
      expect(idsOf(events)).toEqual([1, 2, 3])
    })

    it('before it accepts is no reason to wait for ever', async () => {
      const link = await runner.connect()
      const response = fleet.run({ prompt: 'x', queue_timeout_s: 1 }, SSE)
      await link.next('offer')
      await link.cut()
      expect([(await response).status, await (await response).json()]).toMatchObject([503, { code: 'no_runner' }])
      expect(await fleet.list()).toEqual([])
    })

    it('after its go takes its run with it, and goes on with it when it is back', async () => {
      const first = await runner.connect()
      const reading = fleet.run({ prompt: 'x' }, SSE).then((response) => readSse(response))
      const offer = await first.accept()
      await first.cut()
      await fleet.allRunners('offline')
      const second = await runner.dial()
      second.hello({ runs: [held(offer, 'accepted', 0)] })
      expect((await second.next('welcome')).resume).toMatchObject([{ run: offer.run, ack: 0, do: 'continue' }])
      expect((await second.next('lease')).l).toEqual([[offer.run, 1, LEASE_MS]])
      second.send({ t: 'starting', run: offer.run, fence: 1 })
      const { id: session_id } = offer.spec.session
      second.mark(offer, 1, { kind: 'started', session_id, provider: 'local', cli_version: '0', cwd: '/work', warm: false })
      second.exit(offer, 2)
      expect((await reading).events.map((e) => e.event)).toEqual(['started', 'done'])
    })

    it('and comes back without a run that it had ends that run, which says what is missing', async () => {
      const first = await runner.connect()
      const started = fleet.start({ prompt: 'x' })
      const offer = await first.begin()
      const { id } = await started
      first.lines(offer, 2, ['{"n":2}'])
      await first.acked(offer, 2)
      const reading = follow(fleet, id)
      await first.cut()
      const second = await runner.connect()
      const events = await reading
      expect(events.map((e) => e.event)).toEqual(['started', 'message', 'gap', 'done'])
      expect(JSON.parse(events[2]!.data)).toMatchObject({ from: 3, to: null })
      expect(JSON.parse(events[3]!.data)).toMatchObject({ status: 'lost' })
      await second.cut()
    })

    it('and says that a run which had its go never started gives it to the next one', async () => {
      const link = await runner.connect()
      const started = fleet.start({ prompt: 'x' })
      const offer = await link.accept()
      const { id } = await started
      link.exit(offer, 1, { reason: 'not_started', result: undefined, code: null })
      const again = await link.begin()
      expect(again).toMatchObject({ run: id, fence: 2 })
      link.exit(again, 2)
      await fleet.until(id, 'succeeded')
    })

    it('and says so does not keep the session that the run was to open, nor the name that it had there', async () => {
      const [first, second, cli] = [await runner.connect(), await (await RawRunner.enlist(fleet)).connect({ slots: 0 }), crypto.randomUUID()]
      const started = fleet.start({ prompt: 'x' })
      const offer = await first.accept({ session: crypto.randomUUID() })
      const { id, session_id } = await started
      await first.cut()
      const third = await (await RawRunner.enlist(fleet)).connect()
      const back = await runner.connect({ slots: 0, runs: [held(offer, 'accepted', 0)] })
      back.exit(offer, 1, { reason: 'not_started', result: undefined, code: null })
      const again = await third.begin({ session: cli })
      third.exit(again, 2)
      await fleet.until(id, 'succeeded')
      const next = fleet.start({ prompt: 'y', session_id })
      expect((await third.begin()).spec.session).toEqual({ mode: 'resume', id: session_id, cli })
      await next
      await second.cut()
    })

    it('and says so has its readers follow the run to another one', async () => {
      const link = await runner.connect()
      const { id } = await Promise.all([fleet.start({ prompt: 'x' }), link.accept()]).then(([run]) => run)
      const other = await (await RawRunner.enlist(fleet)).connect()
      const read = readSse(await fleet.call(`/v1/runs/${id}/events`))
      // Its runner has no room any more when it gives the run back.
      link.send({ t: 'drain' })
      link.exit({ run: id, fence: 1 }, 1, { reason: 'not_started', result: undefined, code: null })
      const again = await other.begin()
      expect(again).toMatchObject({ run: id, fence: 2 })
      other.exit(again, 2)
      expect((await read).events.map((e) => e.event)).toEqual(['started', 'done'])
    })

    it('in the middle of a cancel hears of it when it is back', async () => {
      const first = await runner.connect()
      const started = fleet.start({ prompt: 'x' })
      const offer = await first.begin()
      await first.acked(offer, 1)
      const { id } = await started
      await first.cut()
      await fleet.allRunners('offline')
      expect((await fleet.call(`/v1/runs/${id}/cancel`, { method: 'POST' })).status).toBe(202)
      const second = await runner.dial()
      second.hello({ runs: [held(offer, 'running', 1)] })
      expect(await second.next('cancel')).toMatchObject({ run: id, fence: 1 })
      second.exit(offer, 2, { reason: 'cancelled', result: undefined })
      expect(await fleet.until(id, 'cancelled')).toMatchObject({ error: { code: 'cancelled' } })
    })
  })
}
