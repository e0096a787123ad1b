/** The host ends and comes back, with everything under way. */
import { beforeEach, describe, expect, it } from 'vitest'
import type { Fleet } from '../kit/fleet.ts'
import { follow } from '../kit/follow.ts'
import type { Host } from '../kit/host.ts'
import { idsOf, SSE } from '../kit/sse.ts'
import { gate, resultAt, type Gate } from '../kit/turns.ts'
import { until } from '../kit/wait.ts'
import { tenantEach } from './tenants.ts'

const STREAMS = 16

const cut = { cut: true }
/** It goes on; sending it again could make two. */
const told = { status: 503, retry: 'false' }

/** What becomes of a request that waits when its host ends. */
async function whatHears(request: Promise<Response>) {
  try {
    const response = await request
    const { status, headers } = response
    return { status, retry: headers.get('x-should-retry'), location: headers.get('location'), problem: await response.json() }
  } catch {
    return cut
  }
}

export function restarts(host: Host): void {
  describe('a restart of the host', () => {
    const current = tenantEach(host)
    let fleet: Fleet
    let cli: Gate
    beforeEach(() => {
      fleet = current()
      cli = gate()
    })

    it('in the middle of many runs, twice: nothing is lost, doubled or out of order', { timeout: 60_000 }, async () => {
      const printed = new Map<string, string[]>()
      const over = new AbortController()
      await fleet.runner({
        slots: STREAMS,
        turn: async (sink, { run }) => {
          const lines: string[] = []
          printed.set(run, lines)
          const print = () => {
            lines.push(JSON.stringify({ run, n: lines.length, pad: 'x'.repeat(lines.length % 500) }))
            return sink.line(Buffer.from(lines.at(-1)!))
          }
          while (!over.signal.aborted) {
            print()
            await new Promise((resolve) => setTimeout(resolve, 5))
          }
          return { result: resultAt(print()) }
        },
      })
      const runs = await Promise.all(Array.from({ length: STREAMS }, () => fleet.start({ prompt: 'print' })))
      const queued = await fleet.start({ prompt: 'waits for a slot' })
      const reading = runs.map(({ id }) => follow(fleet, id))
      for (let restart = 1; restart <= 2; restart++) {
        const counts = () => [...printed.values()].map((lines) => lines.length)
        const goal = counts().map((count) => count + 20)
        await until('all to print', () => printed.size === STREAMS && counts().every((count, i) => count > (goal[i] ?? 20)))
        await fleet.restart()
        await fleet.allRunners('online')
      }
      over.abort()
      for (const [i, { id }] of runs.entries()) {
        const events = await reading[i]!
        const lines = printed.get(id)!
        expect(idsOf(events)).toEqual(Array.from({ length: lines.length + 2 }, (_, n) => n + 1))
        expect(events.slice(1, -1).map((e) => e.data)).toEqual(lines)
        expect(JSON.parse(events.at(-1)!.data)).toMatchObject({ id, status: 'succeeded' })
      }
      await fleet.until(queued.id, 'succeeded')
      expect(printed.size).toBe(STREAMS + 1)
    })

    it('leaves the line as it was', async () => {
      await fleet.runner({ turn: cli.turn, slots: 1 })
      const first = await fleet.start({ prompt: 'first' })
      await cli.running('first')
      const second = await fleet.start({ prompt: 'second' })
      const urgent = await fleet.start({ prompt: 'urgent', priority: 9 })
      await fleet.restart()
      expect((await fleet.get(second.id)).status).toBe('queued')
      for (const prompt of ['first', 'urgent', 'second']) await cli.finish(prompt)
      for (const { id } of [first, urgent, second]) await fleet.until(id, 'succeeded')
      expect(cli.order).toEqual(['first', 'urgent', 'second'])
    })

    it('keeps a session to one turn, and to its runner', async () => {
      await fleet.runner({ turn: cli.turn })
      const { session_id } = await fleet.start({ prompt: 'first' })
      await cli.running('first')
      await fleet.restart()
      await fleet.allRunners('online')
      const busy = await fleet.run({ prompt: 'no', session_id, on_busy: 'reject' })
      expect([busy.status, await busy.json()]).toMatchObject([409, { code: 'session_busy' }])
      const second = await fleet.start({ prompt: 'second', session_id })
      for (const prompt of ['first', 'second']) await cli.finish(prompt)
      await fleet.until(second.id, 'succeeded')
      expect(cli.order).toEqual(['first', 'second'])
    })

    it('keeps tokens, keys and the wish to cancel', async () => {
      const runner = await fleet.runner({ turn: cli.turn })
      const key = { 'idempotency-key': 'k' }
      const { id } = await fleet.start({ prompt: 'first' }, key)
      await cli.running('first')
      await fleet.restart()
      expect(await fleet.start({ prompt: 'first' }, key)).toMatchObject({ id })
      await fleet.allRunners('online')
      expect((await fleet.runners())[0]).toMatchObject({ id: runner.id, slots: 4, busy: 1 })
      expect((await fleet.call(`/v1/runs/${id}/cancel`, { method: 'POST' })).status).toBe(202)
      await fleet.until(id, 'cancelled')
      expect(cli.order).toEqual(['first'])
      await until('its slot to be free', async () => (await fleet.runners())[0]!.busy === 0)
    })

    it('is no end of a run that somebody waits for', async () => {
      await fleet.runner({ turn: cli.turn })
      const hearing = whatHears(fleet.run({ prompt: 'wait' }))
      await cli.running('wait')
      const [run] = await fleet.list('?status=running')
      await fleet.restart()
      const location = `/v1/runs/${run!.id}`
      expect(await hearing).toMatchObject(host.can.endsWaitingRequestsOnRestart ? { ...told, location } : cut)
      await fleet.allRunners('online')
      await fleet.call(`/v1/runs/${run!.id}/cancel`, { method: 'POST' })
      expect((await follow(fleet, run!.id)).at(-1)!.event).toBe('done')
    })

    it('is no reason to send a waiting request again', async () => {
      await fleet.runner({ turn: cli.turn, slots: 1 })
      await fleet.start({ prompt: 'first' })
      await cli.running('first')
      const key = { 'idempotency-key': 'k' }
      const hearing = whatHears(fleet.run({ prompt: 'second' }, { ...SSE, ...key }))
      await until('it to wait', async () => (await fleet.list('?status=queued')).length === 1)
      const [queued] = await fleet.list('?status=queued')
      await fleet.restart()
      const problem = { run_id: queued!.id, retryable: false }
      expect(await hearing).toMatchObject(host.can.endsWaitingRequestsOnRestart ? { ...told, problem } : cut)
      // With a key it may be: it leads to the same run.
      expect(await fleet.start({ prompt: 'second' }, key)).toMatchObject({ id: queued!.id })
      await cli.finish('first')
      await cli.finish('second')
      await fleet.until(queued!.id, 'succeeded')
      expect(cli.order).toEqual(['first', 'second'])
    })
  })
}
