/** The network between a runner and its router: cut, silent, or left on purpose. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { DEAD_MS } from '../../shared/limits.ts'
import { FaultProxy } from '../chaos/fault-proxy.ts'
import { startFleet, type Fleet } from '../kit/fleet.ts'
import { follow } from '../kit/follow.ts'
import type { Host } from '../kit/host.ts'
import { startProxy, type Proxy } from '../kit/proxy.ts'
import { idsOf, readSse, SSE } from '../kit/sse.ts'
import { echo, gate, resultAt, type Gate } from '../kit/turns.ts'
import { until } from '../kit/wait.ts'
import { tenantEach } from './tenants.ts'

/** What the protocol promises, with a few seconds for whoever asks. */
const FOUND_DEAD_MS = 30_000

const portOf = (fleet: Fleet) => Number(new URL(fleet.url).port)

export function links(host: Host): void {
  describe('a link that is cut in the middle of a run', () => {
    let fleet: Fleet
    let proxy: Proxy
    beforeAll(async () => {
      fleet = await startFleet(host, {})
      proxy = await startProxy(portOf(fleet))
    })
    afterAll(async () => {
      await fleet.close()
      await proxy.close()
    })

    it('loses, repeats and reorders nothing, with a 2 MB line among the others', async () => {
      const pad = (i: number) => (i === 200 ? '€'.repeat(700_000) : 'x'.repeat(i * 7))
      const lines = Array.from({ length: 400 }, (_, i) => JSON.stringify({ n: i, pad: pad(i) }))
      let cuts = 0
      await fleet.runner({
        via: proxy.port,
        turn: async (sink) => {
          let seq = 0
          for (const [i, line] of lines.entries()) {
            seq = sink.line(Buffer.from(line))
            if (i % 80 === 40 || i === 200) {
              const before = proxy.bytes
              await until('something to be under way', () => proxy.bytes > before)
              proxy.cut()
              cuts++
            }
          }
          return { result: resultAt(seq) }
        },
      })
      const { events } = await readSse(await fleet.run({ prompt: 'cut me' }, SSE))
      expect(cuts).toBe(5)
      expect(idsOf(events)).toEqual(Array.from({ length: 402 }, (_, i) => i + 1))
      expect(events.slice(1, -1).map((e) => e.data)).toEqual(lines)
      expect(JSON.parse(events.at(-1)!.data)).toMatchObject({ status: 'succeeded' })
    })
  })

  describe('a network that swallows everything', () => {
    let fleet: Fleet
    let network: FaultProxy
    beforeAll(async () => {
      fleet = await startFleet(host, {})
      network = await FaultProxy.start(() => portOf(fleet))
    })
    afterAll(async () => {
      network.heal()
      await fleet.close()
      await network.close()
    })

    it('is found out in time, with a run or without, and the run goes on when it is over', { timeout: 90_000 }, async () => {
      const cli = gate()
      const lines: string[] = []
      const seen = (n: number) => until(`${n} lines`, () => lines.length >= n)
      const over = new AbortController()
      await fleet.runner({
        name: 'busy',
        pool: 'busy',
        via: network.port,
        turn: async (sink) => {
          let seq = 0
          while (!over.signal.aborted) {
            lines.push(JSON.stringify({ n: lines.length }))
            seq = sink.line(Buffer.from(lines.at(-1)!))
            await new Promise((resolve) => setTimeout(resolve, 20))
          }
          return { result: resultAt(seq) }
        },
      })
      await fleet.runner({ name: 'idle', pool: 'idle', via: network.port, turn: cli.turn })
      const { id } = await fleet.start({ prompt: 'x', pool: 'busy' })
      const reading = follow(fleet, id)
      await seen(10)
      network.blackhole()
      const silentSince = performance.now()
      await fleet.allRunners('offline', FOUND_DEAD_MS + 5_000)
      const foundAfterMs = performance.now() - silentSince
      expect(foundAfterMs).toBeLessThan(FOUND_DEAD_MS)
      // A ping every 10 s is all that an idle link hears, so it is not given up before its time.
      expect(foundAfterMs).toBeGreaterThan(DEAD_MS - 12_000)
      const refused = await fleet.run({ prompt: 'y', pool: 'idle', queue_timeout_s: 0 })
      expect([refused.status, await refused.json()]).toMatchObject([503, { code: 'no_runner' }])
      expect((await fleet.get(id)).status).toBe('running')
      const printed = lines.length
      network.heal()
      await fleet.allRunners('online', FOUND_DEAD_MS)
      await seen(printed + 10)
      over.abort()
      const events = await reading
      expect(idsOf(events)).toEqual(Array.from({ length: lines.length + 2 }, (_, i) => i + 1))
      expect(events.slice(1, -1).map((e) => e.data)).toEqual(lines)
      const again = fleet.run({ prompt: 'back', pool: 'idle' })
      await cli.finish('back')
      expect((await again).status).toBe(200)
    })
  })

  describe('a runner that means to leave', () => {
    const current = tenantEach(host)
    let fleet: Fleet
    let cli: Gate
    beforeEach(() => {
      fleet = current()
      cli = gate()
    })

    it('takes nothing new while it drains, and finishes what it has', async () => {
      const runner = await fleet.runner({ turn: cli.turn })
      const { id } = await fleet.start({ prompt: 'first' })
      await cli.running('first')
      runner.agent.drain()
      await fleet.allRunners('draining')
      const refused = await fleet.run({ prompt: 'second', queue_timeout_s: 0 })
      expect([refused.status, await refused.json()]).toMatchObject([429, { code: 'busy' }])
      const waiting = await fleet.start({ prompt: 'third' })
      const other = await fleet.runner({ name: 'other', turn: cli.turn })
      await cli.finish('third')
      expect(await fleet.until(waiting.id, 'succeeded')).toMatchObject({ runner_id: other.id })
      await cli.finish('first')
      expect(await fleet.until(id, 'succeeded')).toMatchObject({ runner_id: runner.id })
    })

    it('ends its runs when it stops, and they say so', async () => {
      const runner = await fleet.runner({ turn: cli.turn })
      const reading = fleet.run({ prompt: 'first' }, SSE).then((response) => readSse(response))
      await cli.running('first')
      await runner.agent.stop()
      const { events } = await reading
      await runner.stop()
      expect(JSON.parse(events.at(-1)!.data)).toMatchObject({ status: 'failed', error: { code: 'runner_stopped' } })
      await fleet.allRunners('offline')
      await fleet.runner({ name: 'next', turn: echo })
      expect((await fleet.run({ prompt: 'x' })).status).toBe(200)
    })
  })
}
