/** What the owners of machines forbid: refused early and by the rule, unless one of the machines allows it. */
import { describe, expect, it } from 'vitest'
import type { PolicyView } from '../../shared/policy.ts'
import { startFleet, type Fleet, type Json } from '../kit/fleet.ts'
import type { Host } from '../kit/host.ts'
import { RawRunner, type RawLink } from '../kit/raw-runner.ts'
import { tenantEach } from './tenants.ts'

/** As of a `runner.toml` that says nothing. */
const DEFAULTS: PolicyView = {
  permission_modes: ['default', 'acceptEdits', 'plan', 'dontAsk', 'auto'],
  bypass: false,
  mcp_config: false,
  agents: true,
  system_prompts: true,
  allow_private_base_urls: false,
  sandbox: 'none',
}

async function machine(fleet: Fleet, policy: Partial<PolicyView> | undefined, slots = 1): Promise<RawLink & { id: string }> {
  const runner = await RawRunner.enlist(fleet)
  const link = await runner.connect({ slots, ...(policy ? { policy: { ...DEFAULTS, ...policy } } : {}) })
  return Object.assign(link, { id: runner.identity.runnerId })
}

async function refusal(response: Response): Promise<[number, Json]> {
  return [response.status, (await response.json()) as Json]
}

export function policies(host: Host): void {
  describe('a run that the owners of all machines forbid', () => {
    const current = tenantEach(host)

    it.each<[string, Partial<PolicyView>, Json, string]>([
      ['a mode', { permission_modes: ['plan'] }, { permission_mode: 'auto' }, 'permission_mode: "auto" is not allowed on this'],
      ['no mode', { permission_modes: ['plan'] }, {}, 'permission_mode: "default" is not allowed on this machine'],
      ['MCP servers', {}, { mcp_config: { mcpServers: {} } }, 'mcp_config: runs on this machine may not name MCP servers'],
      ['a server that none of them has', { mcp_servers: ['other'] }, { mcp_servers: ['tickets'] }, 'mcp_servers: "tickets" is no MCP server of this'],
      ['a prompt', { system_prompts: false }, { append_system_prompt: 'x' }, 'append_system_prompt: runs on this machine may'],
      ['agents', { agents: false }, { agents: { a: { prompt: 'x' } } }, 'agents: runs on this machine may not define agents'],
      [
        'the mode of an agent',
        { permission_modes: ['default'] },
        { agents: { a: { prompt: 'x', permissionMode: 'plan' } } },
        'agents.a.permissionMode: "plan" is not allowed',
      ],
      ['its budget', { max_budget_usd: 1 }, { max_budget_usd: 2 }, 'max_budget_usd: 2 is over what the owner of this machine'],
      ['its turns', { max_turns: 3 }, { max_turns: 4 }, 'max_turns: 4 is over'],
      ['its time', { max_timeout_s: 60 }, { timeout_s: 61 }, 'timeout_s: 61 is over'],
    ])('because of %s is refused at once, by the rule, and never offered', async (_what, policy, body, message) => {
      const fleet = current()
      const links = [await machine(fleet, policy), await machine(fleet, policy)]
      for (const prefer of ['wait', 'respond-async']) {
        // A queue timeout that nobody would wait for.
        const [status, problem] = await refusal(await fleet.run({ prompt: 'x', queue_timeout_s: 600, ...body }, { prefer }))
        expect([status, problem]).toMatchObject([403, { code: 'policy', field: message.slice(0, message.indexOf(':')) }])
        expect(problem['detail']).toContain(message)
      }
      expect(links.flatMap((link) => link.received)).toEqual([])
      expect(await fleet.list()).toEqual([])
    })

    it('leaves its key free, so that the same request may succeed elsewhere later', async () => {
      const fleet = current()
      await machine(fleet, { max_turns: 1 })
      const body = { prompt: 'x', max_turns: 2 }
      const again = () => fleet.run(body, { 'idempotency-key': 'k', prefer: 'respond-async' })
      expect((await again()).status).toBe(403)
      const other = await machine(fleet, {})
      expect((await Promise.all([again(), other.begin()]))[0].status).toBe(202)
    })

    it('is refused by the runner of its session, whatever the others allow', async () => {
      const fleet = current()
      const runner = await RawRunner.enlist(fleet)
      const before = await runner.connect({ policy: DEFAULTS })
      const [{ id, session_id }, offer] = await Promise.all([fleet.start({ prompt: 'x', max_turns: 5 }), before.begin()])
      before.exit(offer, 2)
      await fleet.until(id, 'succeeded')
      await before.cut()
      await fleet.allRunners('offline')
      await runner.connect({ policy: { ...DEFAULTS, max_turns: 1 } })
      await machine(fleet, {})
      const [status, problem] = await refusal(await fleet.run({ prompt: 'x', session_id, max_turns: 5, queue_timeout_s: 600 }))
      expect([status, problem]).toMatchObject([403, { code: 'policy', field: 'max_turns' }])
    })

    it('is what a runner says itself that has not told the router its policy', async () => {
      const fleet = current()
      const link = await machine(fleet, undefined)
      const response = fleet.run({ prompt: 'x', mcp_config: {} })
      const { id, run, fence } = await link.next('offer')
      link.send({ t: 'reject', re: id, run, fence, code: 'policy', message: 'mcp_config: not here' })
      expect(await refusal(await response)).toMatchObject([403, { code: 'policy', detail: 'mcp_config: not here' }])
      expect(await fleet.list()).toEqual([])
    })

    it('waits when it was in line already, and says at the end which rule it was', async () => {
      const fleet = current()
      const { id } = await fleet.start({ prompt: 'x', max_turns: 2, queue_timeout_s: 4 })
      const link = await machine(fleet, { max_turns: 1 })
      expect((await fleet.until(id, 'failed')).error).toEqual({
        code: 'rejected',
        message: 'no runner that fits may run this: max_turns: 2 is over what the owner of this machine allows: 1',
      })
      expect(link.received).toEqual([])
    })
  })

  describe('a run that the owner of some machine allows', () => {
    const current = tenantEach(host)

    it('goes there, every time', async () => {
      const fleet = current()
      const strict = await machine(fleet, { max_turns: 1 }, 8)
      const free = await machine(fleet, {}, 8)
      for (let n = 0; n < 6; n++) {
        const [{ id }, offer] = await Promise.all([fleet.start({ prompt: 'x', max_turns: 5 }), free.begin()])
        expect(offer.run).toBe(id)
        free.exit(offer, 2)
        expect(await fleet.until(id, 'succeeded')).toMatchObject({ runner_id: free.id })
      }
      expect(strict.received).toEqual([])
    })

    it('goes where the MCP servers are that it names', async () => {
      const fleet = current()
      const without = await machine(fleet, {}, 8)
      const having = await machine(fleet, { mcp_servers: ['search', 'tickets'] }, 8)
      for (let n = 0; n < 3; n++) {
        const [{ id }, offer] = await Promise.all([fleet.start({ prompt: 'x', mcp_servers: ['tickets'] }), having.begin()])
        expect([offer.run, offer.spec.mcp_servers]).toEqual([id, ['tickets']])
        having.exit(offer, 2)
        await fleet.until(id, 'succeeded')
      }
      expect(without.received).toEqual([])
    })

    it('waits for it when it is busy, behind nobody who needs less', async () => {
      const fleet = current()
      const free = await machine(fleet, {})
      const [{ id: running }, offer] = await Promise.all([fleet.start({ prompt: 'x' }), free.begin()])
      const { id: waiting } = await fleet.start({ prompt: 'x', max_turns: 5 })
      const strict = await machine(fleet, { max_turns: 1 })
      const [{ id: modest }, elsewhere] = await Promise.all([fleet.start({ prompt: 'x' }), strict.begin()])
      expect(elsewhere.run).toBe(modest)
      expect(await fleet.get(waiting)).toMatchObject({ status: 'queued' })
      strict.exit(elsewhere, 2)
      free.exit(offer, 2)
      await fleet.until(running, 'succeeded')
      const next = await free.begin()
      expect(next.run).toBe(waiting)
      free.exit(next, 2)
      await fleet.until(waiting, 'succeeded')
    })

    it('is not forgotten to need it by a restart of the router', async () => {
      const fleet = await startFleet(host, {})
      try {
        const { id } = await fleet.start({ prompt: 'x', mcp_config: {}, queue_timeout_s: 60 })
        await fleet.restart()
        const strict = await machine(fleet, {})
        const free = await machine(fleet, { mcp_config: true })
        const offer = await free.begin()
        expect(offer.run).toBe(id)
        free.exit(offer, 2)
        await fleet.until(id, 'succeeded')
        expect(strict.received).toEqual([])
      } finally {
        await fleet.close()
      }
    })

    it('starts when that machine comes, although another one is there', async () => {
      const fleet = current()
      const { id } = await fleet.start({ prompt: 'x', mcp_config: {}, queue_timeout_s: 60 })
      await machine(fleet, {})
      const free = await machine(fleet, { mcp_config: true })
      const offer = await free.begin()
      expect(offer.run).toBe(id)
      free.exit(offer, 2)
      await fleet.until(id, 'succeeded')
    })
  })

  describe('the policy of a runner', () => {
    const current = tenantEach(host)

    it('is shown while it is connected, and nothing is made up for one that does not tell', async () => {
      const fleet = current()
      const strict = await machine(fleet, { max_turns: 1, sandbox: 'bwrap' })
      const silent = await machine(fleet, undefined)
      const shown = Object.fromEntries((await fleet.runners()).map((r) => [r.id, (r as Json)['policy']]))
      expect(shown).toEqual({ [strict.id]: { ...DEFAULTS, max_turns: 1, sandbox: 'bwrap' }, [silent.id]: null })
    })
  })
}
