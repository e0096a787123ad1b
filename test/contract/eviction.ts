/** A host that may forget what it has in memory at any time: for hosts that `forcesEviction`. */
import { beforeEach, describe, expect, it } from 'vitest'
import type { Fleet } from '../kit/fleet.ts'
import { follow } from '../kit/follow.ts'
import type { Host } from '../kit/host.ts'
import { held, RawRunner } from '../kit/raw-runner.ts'
import { idsOf } from '../kit/sse.ts'
import { echo, gate } from '../kit/turns.ts'
import { until } from '../kit/wait.ts'
import { tenantEach } from './tenants.ts'

const HOW = ['hibernate', 'close'] as const

export function eviction(host: Host): void {
  if (!host.can.forcesEviction) return

  describe('a runner that its host has forgotten', () => {
    const current = tenantEach(host)
    let fleet: Fleet
    beforeEach(() => void (fleet = current()))

    const evict = (id: string, how: (typeof HOW)[number]) => fleet.host.evictRunner!(id, how)
    const online = () => until('it to be online', async () => (await fleet.runners())[0]!.status === 'online')

    it.each(HOW)('while it was idle takes the next run (%s)', async (how) => {
      const runner = await fleet.runner({ turn: echo })
      expect(await (await fleet.run({ prompt: 'before' })).json()).toMatchObject({ status: 'succeeded', result: 'before' })
      await evict(runner.id, how)
      const after = await fleet.run({ prompt: 'after' })
      expect(await after.json()).toMatchObject({ status: 'succeeded', result: 'after', runner_id: runner.id })
      await online()
    })

    it.each(HOW)('with runs goes on with them, and gives away no slot twice (%s)', async (how) => {
      const cli = gate()
      const runner = await fleet.runner({ turn: cli.turn, slots: 2 })
      const runs = await Promise.all(['a', 'b'].map((prompt) => fleet.start({ prompt })))
      for (const prompt of ['a', 'b']) await cli.running(prompt)
      const third = await fleet.start({ prompt: 'c' })
      await evict(runner.id, how)
      await online()
      expect((await fleet.runners())[0]).toMatchObject({ slots: 2, busy: 2 })
      expect((await fleet.get(third.id)).status).toBe('queued')
      for (const prompt of ['a', 'b', 'c']) await cli.finish(prompt)
      for (const { id } of [...runs, third]) {
        await fleet.until(id, 'succeeded')
        expect(idsOf(await follow(fleet, id))).toEqual([1, 2, 3])
      }
      expect(cli.order).toEqual(['a', 'b', 'c'])
    })

    it('on an open socket is still who it was: its messages count, and a greeting is not asked for again', async () => {
      const raw = await RawRunner.enlist(fleet)
      const link = await raw.connect()
      const started = fleet.start({ prompt: 'x' })
      const offer = await link.begin()
      await link.acked(offer, 1)
      const { id } = await started
      await evict(raw.identity.runnerId, 'hibernate')
      link.lines(offer, 2, ['{"n":2}'])
      await link.acked(offer, 2)
      await evict(raw.identity.runnerId, 'hibernate')
      link.exit(offer, 3)
      await fleet.until(id, 'succeeded')
      expect(idsOf(await follow(fleet, id))).toEqual([1, 2, 3])
      link.hello()
      expect(await link.closed).toBe(4400)
    })

    it('and cut off is told where to go on', async () => {
      const raw = await RawRunner.enlist(fleet)
      const first = await raw.connect()
      const started = fleet.start({ prompt: 'x' })
      const offer = await first.begin()
      first.lines(offer, 2, ['{"n":2}'])
      await first.acked(offer, 2)
      const { id } = await started
      await evict(raw.identity.runnerId, 'close')
      await first.closed
      const second = await raw.dial()
      second.hello({ runs: [held(offer, 'running', 3)] })
      expect((await second.next('welcome')).resume).toEqual([{ run: id, fence: 1, ack: 2, part: 0, do: 'continue' }])
      second.exit(offer, 3)
      await fleet.until(id, 'succeeded')
    })
  })
}
