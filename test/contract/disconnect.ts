/** Subscribers that leave, come back, or do not read. */
import { beforeEach, describe, expect, it } from 'vitest'
import type { Fleet, Json } from '../kit/fleet.ts'
import type { Host } from '../kit/host.ts'
import { readSse, SSE } from '../kit/sse.ts'
import { gate, type Gate } from '../kit/turns.ts'
import { tenantEach } from './tenants.ts'

export function disconnect(host: Host): void {
  const noticedMs = host.can.seesClientLeaveWithinMs + 15_000

  describe('a run whose subscribers leave', { timeout: noticedMs + 15_000 }, () => {
    const current = tenantEach(host)
    let fleet: Fleet
    let cli: Gate
    beforeEach(async () => {
      fleet = current()
      cli = gate()
      await fleet.runner({ turn: cli.turn })
    })

    const leave = async (body: Json) => {
      const response = await fleet.run(body, SSE)
      await readSse(response, (events) => events.length >= 2)
      return response.headers.get('x-run-id')!
    }

    it('goes on by default', async () => {
      const id = await leave({ prompt: 'stay' })
      await cli.finish('stay')
      expect(await fleet.until(id, 'succeeded')).toMatchObject({ is_error: false })
    })

    it('is cancelled when it asked for that, but not while somebody else still watches', async () => {
      const response = await fleet.run({ prompt: 'go', on_disconnect: 'cancel' }, SSE)
      const id = response.headers.get('x-run-id')!
      const other = readSse(await fleet.call(`/v1/runs/${id}/events`), (events) => events.length >= 2)
      await readSse(response, (events) => events.length >= 2)
      await other
      expect(await fleet.until(id, 'cancelled', noticedMs)).toMatchObject({ error: { code: 'cancelled' } })
    })

    it('is given up after the time it grants, unless somebody comes back', async () => {
      const id = await leave({ prompt: 'wait', on_disconnect: { detach_for_s: 1 } })
      const back = readSse(await fleet.call(`/v1/runs/${id}/events`))
      await cli.finish('wait')
      expect(JSON.parse((await back).events.at(-1)!.data)).toMatchObject({ status: 'succeeded' })
      const gone = await leave({ prompt: 'gone', on_disconnect: { detach_for_s: 1 } })
      await fleet.until(gone, 'cancelled', noticedMs)
    })
  })
}

/** Whoever asked without a stream and does not wait for the answer. */
export function impatience(host: Host): void {
  if (!host.can.seesWaitingClientLeave) return

  describe('a run whose caller does not wait for the answer', () => {
    const current = tenantEach(host)

    it('is cancelled when it asked for that', async () => {
      const fleet = current()
      const cli = gate()
      await fleet.runner({ turn: cli.turn })
      const leaving = new AbortController()
      const body = JSON.stringify({ prompt: 'answer me', on_disconnect: 'cancel' })
      const waiting = fleet.call('/v1/runs', { method: 'POST', body, signal: leaving.signal }).catch(() => 'gone')
      await cli.running('answer me')
      const [run] = await fleet.list()
      leaving.abort()
      expect(await waiting).toBe('gone')
      await fleet.until(run!.id, 'cancelled', host.can.seesClientLeaveWithinMs + 10_000)
    })
  })
}
