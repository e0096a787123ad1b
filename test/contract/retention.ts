/** Runs whose events are no longer kept. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startFleet, type Fleet } from '../kit/fleet.ts'
import type { Host } from '../kit/host.ts'
import { idsOf, readSse, SSE } from '../kit/sse.ts'
import { gate, print } from '../kit/turns.ts'
import { until } from '../kit/wait.ts'

export function retention(host: Host): void {
  describe('a run whose events are no longer kept', () => {
    let fleet: Fleet
    beforeAll(async () => void (fleet = await startFleet(host, { keep: { ageMs: 0, bytes: 1e9 } })))
    afterAll(() => fleet.close())

    it('keeps its row, has no result, and answers for its events with 410', async () => {
      await fleet.runner({ turn: print(() => ['{"type":"result","result":"hello"}']) })
      const key = { 'idempotency-key': 'k1' }
      const { events } = await readSse(await fleet.run({ prompt: 'x' }, { ...SSE, ...key }))
      expect(idsOf(events)).toEqual([1, 2, 3])
      const { id } = JSON.parse(events.at(-1)!.data) as { id: string }
      const path = `/v1/runs/${id}`
      expect(await fleet.get(id)).toMatchObject({ result: 'hello' })

      await fleet.host.prune()
      await until('its events to be gone', async () => (await fleet.call(`${path}/events`)).status === 410)
      for (const after of ['0', '1', '3']) {
        const gone = await fleet.call(`${path}/events?after=${after}`)
        expect([gone.status, await gone.json()]).toMatchObject([410, { code: 'pruned', oldest: null, retryable: false }])
      }
      expect(await fleet.get(id)).toMatchObject({ id, status: 'succeeded', result: null, cost_usd: 0.5 })
      const again = await fleet.run({ prompt: 'x' }, { ...SSE, ...key })
      expect([again.status, await again.json()]).toMatchObject([410, { code: 'pruned' }])
      expect(await (await fleet.run({ prompt: 'x' }, key)).json()).toMatchObject({ id, result: null })
      expect((await fleet.call('/v1/runs/run_00000000000000000000000000000000/events')).status).toBe(404)
    })

    it('does not lose them while it runs', async () => {
      const theirs = await fleet.as('running')
      const cli = gate()
      await theirs.runner({ turn: cli.turn })
      const { id } = await theirs.start({ prompt: 'long' })
      await cli.running('long')
      await fleet.host.prune()
      const reading = readSse(await theirs.call(`/v1/runs/${id}/events`))
      await cli.finish('long')
      expect(idsOf((await reading).events)).toEqual([1, 2, 3])
    })
  })
}
