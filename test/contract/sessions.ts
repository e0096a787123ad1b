/** Conversations: where they live, and what may continue them. */
import { beforeEach, describe, expect, it } from 'vitest'
import type { RunSpec } from '../../shared/run-spec.ts'
import type { Fleet, RunView } from '../kit/fleet.ts'
import type { Host } from '../kit/host.ts'
import { RawRunner } from '../kit/raw-runner.ts'
import { print } from '../kit/turns.ts'
import { tenantEach } from './tenants.ts'

export function sessions(host: Host): void {
  describe('a session', () => {
    const current = tenantEach(host)
    let fleet: Fleet
    let specs: RunSpec[]
    beforeEach(() => {
      fleet = current()
      specs = []
    })

    const turn = print(({ spec }) => {
      specs.push(spec)
      return [JSON.stringify({ type: 'result', result: spec.prompt })]
    })
    const ask = async (body: object): Promise<RunView> => {
      const response = await fleet.run(body)
      const run = (await response.json()) as RunView
      expect([response.status, run]).toMatchObject([200, { status: 'succeeded' }])
      return run
    }
    const refusal = async (body: object) => {
      const response = await fleet.run({ queue_timeout_s: 0, ...body })
      return [response.status, await response.json()] as const
    }

    it('is continued where it was begun, in its directory', async () => {
      await fleet.runner({ turn })
      const first = await ask({ prompt: 'one', cwd: '/work/project' })
      const second = await ask({ prompt: 'two', session_id: first.session_id })
      expect(second.session_id).toBe(first.session_id)
      const { session_id: id } = first
      expect(specs).toMatchObject([
        { session: { mode: 'new', id }, cwd: '/work/project' },
        { session: { mode: 'resume', id }, cwd: '/work/project' },
      ])
      expect(await refusal({ prompt: 'x', session_id: id, cwd: '/elsewhere' })).toMatchObject([400, { code: 'session_cwd' }])
      expect((await ask({ prompt: 'three', session_id: id, cwd: '/work/project' })).session_id).toBe(id)
    })

    it('is forked into another one, which can be continued by itself', async () => {
      await fleet.runner({ turn })
      const { session_id: from } = await ask({ prompt: 'one' })
      const fork = await ask({ prompt: 'two', session_id: from, fork_session: true })
      expect(fork.session_id).not.toBe(from)
      expect(specs[1]).toMatchObject({ session: { mode: 'fork', id: fork.session_id, from } })
      for (const id of [from, fork.session_id]) await ask({ prompt: 'on', session_id: id })
      expect(specs.slice(2).map(({ session }) => session)).toEqual([from, fork.session_id].map((id) => ({ mode: 'resume', id })))
    })

    it('answers to the name that the CLI has for it, and tells it to its runner', async () => {
      const link = await (await RawRunner.enlist(fleet)).connect()
      const cli = crypto.randomUUID()
      const taken = async (body: object, more: { session?: string } = {}) => {
        const [{ id, session_id }, offer] = await Promise.all([fleet.start({ prompt: 'x', ...body }), link.begin(more)])
        link.exit(offer, 2)
        await fleet.until(id, 'succeeded')
        return { session_id, session: offer.spec.session }
      }
      const { session_id: id } = await taken({}, { session: cli })
      for (const name of [id, cli]) {
        expect(await taken({ session_id: name })).toEqual({ session_id: id, session: { mode: 'resume', id, cli } })
        const view = await fleet.call(`/v1/sessions/${name}`)
        expect(await view.json()).toMatchObject({ id, cli_session_id: cli })
      }
      const fork = await taken({ session_id: cli, fork_session: true })
      expect(fork.session).toEqual({ mode: 'fork', id: fork.session_id, from: id, cli })
      expect((await taken({ session_id: fork.session_id })).session).toEqual({ mode: 'resume', id: fork.session_id })
      const other = await fleet.as('somebody-else')
      expect((await other.call(`/v1/sessions/${cli}`)).status).toBe(404)
      expect((await fleet.call(`/v1/sessions/${cli}`, { method: 'DELETE' })).status).toBe(204)
      expect((await fleet.call(`/v1/sessions/${id}`)).status).toBe(404)
    })

    it('is not there for somebody else, nor under an id that nobody was given', async () => {
      await fleet.runner({ turn })
      const { session_id } = await ask({ prompt: 'one' })
      const theirs = await fleet.as(`${fleet.tenant}-other`)
      await theirs.runner({ turn })
      const foreign = await theirs.run({ prompt: 'x', session_id })
      expect([foreign.status, await foreign.json()]).toMatchObject([404, { code: 'session_not_found' }])
      expect(await refusal({ prompt: 'x', session_id: crypto.randomUUID() })).toMatchObject([404, { code: 'session_not_found' }])
      expect(specs).toHaveLength(1)
    })

    it('waits for its runner and goes to no other one', async () => {
      const runner = await fleet.runner({ name: 'home', turn })
      const { session_id } = await ask({ prompt: 'one' })
      await runner.stop()
      await fleet.allRunners('offline')
      await fleet.runner({ name: 'other', turn })
      const [status, problem] = await refusal({ prompt: 'x', session_id })
      expect([status, problem]).toMatchObject([503, { code: 'no_runner', detail: expect.stringContaining(runner.id) }])
    })

    it('stays on its runner: twelve of twelve, with four to choose from', async () => {
      for (let n = 1; n <= 4; n++) await fleet.runner({ name: `r${n}`, turn, slots: 3 })
      const begun = await Promise.all(Array.from({ length: 12 }, (_, i) => ask({ prompt: `begin ${i}` })))
      expect(new Set(begun.map((run) => run.runner_id)).size).toBeGreaterThan(1)
      for (let round = 0; round < 3; round++) {
        const next = await Promise.all(begun.map(({ session_id }) => ask({ prompt: `go on ${round}`, session_id })))
        expect(next.map((run) => run.runner_id)).toEqual(begun.map((run) => run.runner_id))
      }
    })
  })
}
