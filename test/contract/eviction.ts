/** A host that may forget what it has in memory at any time: for hosts that `forcesEviction`. */
import { beforeEach, describe, expect, it } from 'vitest'
import { CLOSE } from '../../shared/frames.ts'
import type { Fleet, RunView } from '../kit/fleet.ts'
import { follow } from '../kit/follow.ts'
import type { Host } from '../kit/host.ts'
import { held, RawRunner } from '../kit/raw-runner.ts'
import { idsOf } from '../kit/sse.ts'
import { echo, gate, resultAt } from '../kit/turns.ts'
import { until } from '../kit/wait.ts'
import { tenantEach } from './tenants.ts'

export function eviction(host: Host): void {
  if (!host.can.forcesEviction) return

  describe('a runner that its host has forgotten while it was idle', () => {
    const current = tenantEach(host)
    let fleet: Fleet
    beforeEach(() => void (fleet = current()))

    it.each(['hibernate', 'close'] as const)('takes the next run (%s)', async (how) => {
      const runner = await fleet.runner({ turn: echo })
      expect(await (await fleet.run({ prompt: 'before' })).json()).toMatchObject({ status: 'succeeded', result: 'before' })
      await fleet.host.evictRunner!(runner.id, how)
      const after = await fleet.run({ prompt: 'after' })
      expect(await after.json()).toMatchObject({ status: 'succeeded', result: 'after', runner_id: runner.id })
      expect((await fleet.runners())[0]).toMatchObject({ status: 'online' })
    })

    it('is on its open socket still who it was', async () => {
      const runner = await RawRunner.enlist(fleet)
      const link = await runner.connect({ slots: 3 })
      const evict = () => fleet.host.evictRunner!(runner.identity.runnerId, 'hibernate')
      for (let fence = 1; fence <= 2; fence++) {
        await evict()
        const started = fleet.start({ prompt: 'x' })
        const offer = await link.begin()
        link.lines(offer, 2, ['{"n":2}'])
        link.exit(offer, 3)
        const { id } = await started
        await fleet.until(id, 'succeeded')
        expect(idsOf(await follow(fleet, id))).toEqual([1, 2, 3])
        await link.next('forget')
      }
      expect((await fleet.runners())[0]).toMatchObject({ status: 'online', slots: 3, busy: 0 })
      await evict()
      link.send({ t: 'refresh', assertion: await runner.assertion() })
      expect(await link.next('token')).toMatchObject({ expires_in_s: 900 })
      await evict()
      link.hello()
      expect(await link.closed).toBe(CLOSE.malformed)
    })

    it('hears of its draining and of its end', async () => {
      const runner = await RawRunner.enlist(fleet)
      const link = await runner.connect()
      await fleet.host.evictRunner!(runner.identity.runnerId, 'hibernate')
      link.send({ t: 'drain' })
      await fleet.allRunners('draining')
      await fleet.host.evictRunner!(runner.identity.runnerId, 'hibernate')
      expect((await fleet.runners())[0]).toMatchObject({ status: 'draining' })
      const refused = await fleet.run({ prompt: 'x', queue_timeout_s: 0 })
      expect([refused.status, await refused.json()]).toMatchObject([429, { code: 'busy' }])
      await link.cut()
      await fleet.allRunners('offline')
    })
  })

  describe('a host that is broken in the middle of what it does', () => {
    const current = tenantEach(host)
    let fleet: Fleet
    beforeEach(() => void (fleet = current()))

    it('goes on with its runs and gives away no slot twice', async () => {
      const cli = gate()
      await fleet.runner({ turn: cli.turn, slots: 2 })
      const runs: RunView[] = []
      for (const prompt of ['a', 'b']) {
        runs.push(await fleet.start({ prompt }))
        await cli.running(prompt)
      }
      const third = await fleet.start({ prompt: 'c' })
      const reading = [...runs, third].map(({ id }) => follow(fleet, id))
      await fleet.host.abortObjects!()
      await fleet.allRunners('online')
      expect((await fleet.runners())[0]).toMatchObject({ slots: 2, busy: 2 })
      expect((await fleet.get(third.id)).status).toBe('queued')
      for (const prompt of ['a', 'b', 'c']) await cli.finish(prompt)
      for (const events of reading) expect(idsOf((await events).filter((e) => e.event !== 'queued'))).toEqual([1, 2, 3])
      expect(cli.order).toEqual(['a', 'b', 'c'])
    })

    it('loses, repeats and reorders nothing of what is printed meanwhile', { timeout: 60_000 }, async () => {
      const lines: string[] = []
      const over = new AbortController()
      await fleet.runner({
        turn: async (sink) => {
          const print = () => {
            lines.push(JSON.stringify({ n: lines.length, pad: 'x'.repeat(lines.length % 900) }))
            return sink.line(Buffer.from(lines.at(-1)!))
          }
          while (!over.signal.aborted) {
            print()
            await new Promise((resolve) => setTimeout(resolve, 2))
          }
          return { result: resultAt(print()) }
        },
      })
      const { id } = await fleet.start({ prompt: 'print' })
      const reading = follow(fleet, id)
      for (let round = 1; round <= 3; round++) {
        const printed = lines.length
        await until('it to print', () => lines.length > printed + 100)
        await fleet.host.abortObjects!()
        await fleet.allRunners('online')
      }
      over.abort()
      const events = await reading
      expect(idsOf(events)).toEqual(Array.from({ length: lines.length + 2 }, (_, i) => i + 1))
      expect(events.slice(1, -1).map((e) => e.data)).toEqual(lines)
    })

    it('tells a runner where to go on', async () => {
      const runner = await RawRunner.enlist(fleet)
      const first = await runner.connect()
      const started = fleet.start({ prompt: 'x' })
      const offer = await first.begin()
      first.lines(offer, 2, ['{"n":2}'])
      await first.acked(offer, 2)
      const { id } = await started
      await fleet.host.abortObjects!()
      await first.closed
      const second = await runner.dial()
      second.hello({ runs: [held(offer, 'running', 3)] })
      expect((await second.next('welcome')).resume).toEqual([{ run: id, fence: 1, ack: 2, part: 0, do: 'continue' }])
      second.exit(offer, 3)
      await fleet.until(id, 'succeeded')
    })
  })
}
