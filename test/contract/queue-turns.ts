/** Turns that wait for their session, and everybody else, who has nothing to do with that. */
import { beforeEach, describe, expect, it } from 'vitest'
import { Fault, FAULTS } from '../../shared/faults.ts'
import type { Fleet, Json } from '../kit/fleet.ts'
import type { Host } from '../kit/host.ts'
import { SSE } from '../kit/sse.ts'
import { gate, scripted, type Gate } from '../kit/turns.ts'
import { until } from '../kit/wait.ts'
import { tenantEach } from './tenants.ts'

export function queueTurns(host: Host): void {
  describe('while turns wait for their session', () => {
    const current = tenantEach(host)
    let fleet: Fleet
    let cli: Gate
    beforeEach(() => {
      fleet = current()
      cli = gate()
    })
    const slots = 4

    /** Takes one slot, and has more turns in line than there are slots. */
    const crowded = async () => {
      const { session_id } = await fleet.start({ prompt: 'turn 0' })
      await cli.running('turn 0')
      const turns = []
      for (let n = 1; n <= slots; n++) turns.push(await fleet.start({ prompt: `turn ${n}`, session_id, queue_timeout_s: 60 }))
      return turns
    }
    const finishTurns = async (last: { id: string }) => {
      for (let n = 0; n <= slots; n++) await cli.finish(`turn ${n}`)
      await fleet.until(last.id, 'succeeded')
      expect(cli.order.filter((prompt) => prompt.startsWith('turn'))).toEqual(Array.from({ length: slots + 1 }, (_, n) => `turn ${n}`))
    }

    it('every other slot is for somebody else, at once', async () => {
      await fleet.runner({ turn: cli.turn, slots })
      const turns = await crowded()
      // For long enough to be offered a slot again and again, if anybody should.
      for (let round = 0; round < 4; round++) {
        const strangers = ['a', 'b', 'c'].map((name) => `${name} ${round}`)
        const answers = strangers.map((prompt) => fleet.run({ prompt, queue_timeout_s: 5 }))
        for (const prompt of strangers) await cli.running(prompt)
        for (const prompt of strangers) await cli.finish(prompt)
        for (const answer of await Promise.all(answers)) expect(await answer.json()).toMatchObject({ status: 'succeeded' })
      }
      for (const { id } of turns) expect((await fleet.get(id)).status).toBe('queued')
      await finishTurns(turns.at(-1)!)
    })

    it('the last slot is for somebody else, however many sessions there are', async () => {
      const sessions = Array.from({ length: 60 }, (_, n) => `session ${n}`)
      await fleet.runner({ turn: cli.turn, slots: sessions.length + 1 })
      const first = await Promise.all(sessions.map((prompt) => fleet.start({ prompt })))
      await Promise.all(sessions.map((prompt) => cli.running(prompt)))
      const next = await Promise.all(first.map(({ session_id }, n) => fleet.start({ prompt: `next ${n}`, session_id })))
      for (let round = 0; round < 5; round++) {
        const answer = fleet.run({ prompt: `stranger ${round}`, queue_timeout_s: 3 })
        await cli.finish(`stranger ${round}`)
        expect(await (await answer).json()).toMatchObject({ status: 'succeeded' })
      }
      for (const prompt of sessions) await cli.finish(prompt)
      for (const n of next.keys()) await cli.finish(`next ${n}`)
      for (const { id } of next) await fleet.until(id, 'succeeded')
    })

    it('a full line is in order all the same, and says so', async () => {
      await fleet.runner({ turn: cli.turn, slots: 2 })
      const turns = await crowded()
      await fleet.start({ prompt: 'y' })
      await cli.running('y')
      const late = await fleet.start({ prompt: 'late' })
      const urgent = await fleet.start({ prompt: 'urgent', priority: 9 })
      const raised = await fleet.start({ prompt: 'raised' })
      const body = JSON.stringify({ priority: 10 })
      expect((await fleet.call(`/v1/runs/${raised.id}`, { method: 'PATCH', body })).status).toBe(200)
      const place = async ({ id }: { id: string }) => (await fleet.get(id)).queue_position
      await until('the order to be seen', async () => (await place(raised)) === 1)
      expect([await place(urgent), await place(turns[0]!), await place(late)]).toEqual([2, 3, slots + 3])
      for (const prompt of ['y', 'raised', 'urgent', 'late']) await cli.finish(prompt)
      await fleet.until(late.id, 'succeeded')
      expect(cli.order).toEqual(['turn 0', 'y', 'raised', 'urgent', 'late'])
      await finishTurns(turns.at(-1)!)
    })

    it('a batch takes its slots and leaves them', async () => {
      await fleet.runner({ turn: cli.turn, slots })
      const turns = await crowded()
      const prompts = Array.from({ length: 7 }, (_, n) => `item ${n}`)
      const body = JSON.stringify({ items: prompts.map((prompt) => ({ prompt })) })
      const { id } = (await (await fleet.call('/v1/batches', { method: 'POST', body })).json()) as { id: string }
      await until('all slots to be taken', () => cli.order.length === slots)
      for (const prompt of prompts) await cli.finish(prompt)
      const batch = async () => (await (await fleet.call(`/v1/batches/${id}`)).json()) as Json
      await until('the batch to end', async () => (await batch())['status'] === 'ended')
      expect(await batch()).toMatchObject({ counts: { succeeded: 7 } })
      await finishTurns(turns.at(-1)!)
    })

    it.each(['cwd', 'agent_not_found', 'policy'] as const)('a refusal with %s is heard as that, after one offer', async (code) => {
      let offers = 0
      await fleet.runner({
        slots,
        turn: cli.turn,
        prepare: (offer) => {
          if (offer.spec.prompt === 'bad') return Promise.reject(new Fault(code, `offer ${++offers}`))
          return Promise.resolve({ process: scripted(cli.turn, offer), cwd: '/work', provider: 'local', dispose: () => Promise.resolve() })
        },
      })
      const turns = await crowded()
      const asks: Record<string, string>[] = [SSE, { accept: 'application/json' }, { 'idempotency-key': 'k' }]
      for (const headers of asks) {
        offers = 0
        const response = await fleet.run({ prompt: 'bad' }, headers)
        expect([response.status, await response.json()]).toMatchObject([FAULTS[code].status, { code, detail: 'offer 1' }])
        expect(offers).toBe(1)
      }
      expect((await fleet.list()).length).toBe(turns.length + 1)
      await finishTurns(turns.at(-1)!)
    })
  })
}
