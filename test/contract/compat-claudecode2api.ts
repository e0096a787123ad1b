/** The dialect of claudecode2api, request by request: what its clients send, and the shapes that they read. */
import { beforeEach, describe, expect, it } from 'vitest'
import type { RunSpec } from '../../shared/run-spec.ts'
import { admins, type Fleet, type Json } from '../kit/fleet.ts'
import type { Host } from '../kit/host.ts'
import { RawRunner } from '../kit/raw-runner.ts'
import { readSse } from '../kit/sse.ts'
import { gate, print, resultAt, type Turn } from '../kit/turns.ts'
import { until } from '../kit/wait.ts'
import { compatClaudecode2apiRefusals } from './compat-claudecode2api-refusals.ts'
import { tenantEach } from './tenants.ts'

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/
const INIT = '{"type":"system","subtype":"init"}'

export function compatClaudecode2api(host: Host): void {
  describe('claudecode2api', () => {
    const current = tenantEach(host)
    let fleet: Fleet
    let specs: RunSpec[]
    beforeEach(() => {
      fleet = current()
      specs = []
    })

    const turn: Turn = print(({ spec }) => {
      specs.push(spec)
      return [INIT, JSON.stringify({ type: 'result', result: spec.prompt })]
    })
    const chat = (body: object, init: RequestInit = {}) => fleet.call('/chat', { method: 'POST', body: JSON.stringify(body), ...init })
    const answer = async (response: Response): Promise<[number, Json]> => [response.status, (await response.json()) as Json]
    /** What the CLI is asked for by this body. */
    async function specOf(body: object): Promise<RunSpec> {
      const response = await chat({ prompt: 'hello', cwd: '/work', ...body })
      const text = await response.text()
      if (response.status !== 200) throw new Error(`${response.status}: ${text}`)
      return specs.at(-1)!
    }

    it('streams what the CLI prints, byte for byte as its clients know it', async () => {
      await fleet.runner({ turn })
      const response = await chat({ prompt: 'hello', cwd: '/work' })
      const process = response.headers.get('x-process-id')
      expect(response.status).toBe(200)
      expect(process).toMatch(UUID)
      expect(Object.fromEntries(response.headers)).toMatchObject({
        'content-type': 'text/event-stream; charset=utf-8',
        'cache-control': 'no-cache',
        'x-accel-buffering': 'no',
        'x-run-id': `run_${process!.replaceAll('-', '')}`,
        'x-request-id': expect.any(String),
      })
      expect(await response.text()).toBe(
        [
          'retry: 500',
          '',
          'id: 2',
          'event: message',
          `data: ${INIT}`,
          '',
          'id: 3',
          'event: message',
          'data: {"type":"result","result":"hello"}',
          '',
          'id: 4',
          'event: done',
          `data: {"process_id": "${process}"}`,
          '',
          '',
        ]
          .join('\r\n')
          .replace('"process_id": ', '"process_id":'),
      )
    })

    it('writes each event in one piece, and never a bare line feed', async () => {
      await fleet.runner({ turn: print(() => Array.from({ length: 50 }, (_, n) => JSON.stringify({ type: 'assistant', n, text: '漢字'.repeat(200) }))) })
      const { text, events } = await readSse(await chat({ prompt: 'hello', cwd: '/work' }))
      expect(text.replaceAll('\r\n', '')).not.toMatch(/[\r\n]/)
      expect(events.map(({ event }) => event)).toEqual([...Array<string>(50).fill('message'), 'done'])
    })

    it('ends with error and its text where the CLI was cut off, and with done where it failed by itself', async () => {
      const results: Record<string, Turn> = {
        crash: (sink) => {
          sink.line(Buffer.from(INIT))
          return Promise.resolve({ code: 1 })
        },
        fail: (sink) => {
          const seq = sink.line(Buffer.from('{"type":"result","is_error":true}'))
          return Promise.resolve({ code: 1, result: { ...resultAt(seq), is_error: true, error: { code: 'rate_limited', message: 'slow down' } } })
        },
      }
      await fleet.runner({ turn: (sink, offer, stopped) => results[offer.spec.prompt]!(sink, offer, stopped) })
      const crash = await readSse(await chat({ prompt: 'crash', cwd: '/work' }))
      expect(crash.events.map(({ event }) => event)).toEqual(['message', 'error'])
      expect(JSON.parse(crash.events.at(-1)!.data)).toEqual({ error: 'the CLI ended without a result' })
      const fail = await readSse(await chat({ prompt: 'fail', cwd: '/work' }))
      expect(fail.events.map(({ event }) => event)).toEqual(['message', 'done'])
    })

    it('understands all of its fields', async () => {
      await fleet.runner({ turn })
      expect(await specOf({})).toMatchObject({ prompt: 'hello', cwd: '/work', model: 'sonnet', session: { mode: 'new' } })
      expect((await specOf({ model: null })).model).toBeUndefined()
      const all = {
        model: 'opus',
        fallback_model: 'haiku',
        fork_session: null,
        system_prompt: 'Be brief.',
        append_system_prompt: 'Be kind.',
        tools: ['Read', 'Bash,Edit'],
        allowed_tools: ['Bash(git log:*)', 'Read, Edit'],
        disallowed_tools: ['WebFetch'],
        permission_mode: 'plan',
        mcp_config: ['{"mcpServers":{"one":{"command":"true"}}}', ' {"mcpServers":{"two":{"command":"true"}}}', 'owners'],
        strict_mcp_config: false,
        settings: null,
        add_dir: ['/work/more'],
        debug: 'api',
        verbose: 'yes',
        json_schema: { type: 'object' },
        agents: { helper: { description: 'helps', prompt: 'Help.' } },
        plugin_dir: [],
        unknown: { whatever: true },
      }
      expect(await specOf(all)).toMatchObject({
        model: 'opus',
        fallback_model: 'haiku',
        system_prompt: 'Be brief.',
        append_system_prompt: 'Be kind.',
        tools: ['Read', 'Bash', 'Edit'],
        allowed_tools: ['Bash(git log:*)', 'Read', 'Edit'],
        disallowed_tools: ['WebFetch'],
        permission_mode: 'plan',
        mcp_config: { mcpServers: { one: { command: 'true' }, two: { command: 'true' } } },
        mcp_servers: ['owners'],
        add_dirs: ['/work/more'],
        json_schema: { type: 'object' },
        agents: { helper: { description: 'helps', prompt: 'Help.' } },
      })
      const nothing = await specOf(Object.fromEntries(Object.keys(all).map((field) => [field, null])))
      expect(Object.keys(nothing).toSorted()).toEqual(['cwd', 'prompt', 'session', 'tenant', 'timeout_s'])
    })

    it('goes on with a session, named by the directory as before, and forks it', async () => {
      await fleet.runner({ turn })
      const { session } = await specOf({ cwd: 'project' })
      expect((await specOf({ cwd: 'project', session_id: session.id.toUpperCase() })).session).toEqual({ mode: 'resume', id: session.id })
      const fork = await specOf({ cwd: 'project', session_id: session.id, fork_session: 'true' })
      expect(fork.session).toMatchObject({ mode: 'fork', from: session.id })
      expect((await specOf({ cwd: 'project', session_id: fork.session.id })).session).toMatchObject({ mode: 'resume' })
      expect(await answer(await chat({ prompt: 'x', cwd: '/elsewhere', session_id: session.id }))).toEqual([
        400,
        { detail: `cwd: session ${session.id} lives in project` },
      ])
      const nobodys = crypto.randomUUID()
      for (const id of [nobodys, '-p', "' OR 1=1"]) {
        expect(await answer(await chat({ prompt: 'x', cwd: 'project', session_id: id }))).toEqual([404, { detail: `Session not found: ${id}` }])
      }
    })

    it('skips permissions by itself only for a token and on a machine that may, and only where nothing says otherwise', async () => {
      await fleet.runner({ turn })
      const response = await chat({ prompt: 'hello', cwd: '/work' })
      expect([response.status, response.headers.get('runyard-bypass')]).toEqual([200, 'not-applied; because=scope'])
      await response.text()
      expect(specs[0]!.permission_mode).toBeUndefined()
      const { token } = await admins<{ token: string }>(fleet, 'tokens', { kind: 'app', subject: 'bold', scopes: ['runs:write', 'runs:bypass'] })
      const asBold = async (body: object) => {
        const its = await chat({ prompt: 'hello', cwd: '/work', ...body }, { headers: { authorization: `Bearer ${token}` } })
        await its.text()
        return [its.status, its.headers.get('runyard-bypass')]
      }
      // The machine of this test says nothing of what its owner allows.
      expect(await asBold({})).toEqual([200, 'not-applied; because=policy'])
      for (const body of [{ tools: [] }, { tools: ['Read'] }, { allowed_tools: ['Read'] }, { permission_mode: 'plan' }]) {
        expect(await asBold(body)).toEqual([200, null])
      }
      expect(specs.at(-4)!.tools).toEqual([])
    })

    it('skips permissions as the original did where both allow it', async () => {
      const policy = { permission_modes: ['default'], bypass: true, mcp_config: false, agents: true, system_prompts: true, allow_private_base_urls: false, sandbox: 'none' }
      const link = await (await RawRunner.enlist(fleet)).connect({ policy })
      const { token } = await admins<{ token: string }>(fleet, 'tokens', { kind: 'app', subject: 'bold', scopes: ['runs:write', 'runs:bypass'] })
      const asked = chat({ prompt: 'hello', cwd: '/work' }, { headers: { authorization: `Bearer ${token}` } })
      expect((await link.begin()).spec).toMatchObject({ permission_mode: 'bypassPermissions', model: 'sonnet' })
      const response = await asked
      expect([response.status, response.headers.get('runyard-bypass')]).toEqual([200, null])
      await response.body!.cancel()
    })

    it('lets in whoever has the user and password that an admin has registered', async () => {
      await fleet.runner({ turn })
      const scopes = ['runs:write', 'runs:read']
      await admins(fleet, 'credentials', { kind: 'basic', user: `admin-${fleet.tenant}`, password: 'correct horse', subject: 'old', scopes })
      const headers = { authorization: `Basic ${btoa(`admin-${fleet.tenant}:correct horse`)}` }
      const { events } = await readSse(await chat({ prompt: 'hello', cwd: '/work' }, { headers }))
      expect(events.at(-1)!.event).toBe('done')
      expect((await fleet.call('/processes', { headers })).status).toBe(200)
    })

    it('lists what runs, and ends it for good', async () => {
      const cli = gate()
      await fleet.runner({ turn: cli.turn })
      const response = await chat({ prompt: 'long', cwd: '/work', model: 'opus' })
      await cli.running('long')
      const id = response.headers.get('x-process-id')!
      const run = response.headers.get('x-run-id')!
      const listed = (await (await fleet.call('/processes')).json()) as Json
      expect(listed).toEqual({
        processes: [
          {
            process_id: id,
            cwd: '/work',
            model: 'opus',
            started_at: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}$/),
            session_id: expect.stringMatching(UUID),
          },
        ],
        count: 1,
      })
      const theirs = await (await fleet.as(`${fleet.tenant}-other`)).call(`/chat/${id}`, { method: 'DELETE' })
      expect(await answer(theirs)).toEqual([404, { detail: `Process not found: ${id}` }])
      expect(await answer(await fleet.call(`/chat/${id}`, { method: 'DELETE' }))).toEqual([200, { status: 'cancelled', process_id: id }])
      expect(await fleet.get(run)).toMatchObject({ status: 'cancelled' })
      const { events } = await readSse(response)
      expect(events.at(-1)).toMatchObject({ event: 'error', data: '{"error":"the run was cancelled"}' })
      expect(await (await fleet.call('/processes')).json()).toEqual({ processes: [], count: 0 })
      for (const gone of [id, crypto.randomUUID(), 'nothing']) {
        expect(await answer(await fleet.call(`/chat/${gone}`, { method: 'DELETE' }))).toEqual([404, { detail: `Process not found: ${gone}` }])
      }
    })

    it('ends a run whose client has left, unless the client wanted it to go on', async () => {
      const cli = gate()
      await fleet.runner({ turn: cli.turn })
      const leave = async (prompt: string, body: object) => {
        const gone = new AbortController()
        const response = await chat({ prompt, cwd: '/work', ...body }, { signal: gone.signal })
        await cli.running(prompt)
        gone.abort()
        return response.headers.get('x-run-id')!
      }
      const kept = await leave('kept', { on_disconnect: 'detach' })
      const left = await leave('left', {})
      await until('the run to be cancelled', async () => (await fleet.get(left)).status === 'cancelled', 2 * host.can.seesClientLeaveWithinMs + 10_000)
      expect(await fleet.get(kept)).toMatchObject({ status: 'running' })
      await cli.finish('kept')
    })

    it('says what it is to whoever asks', async () => {
      const response = await fleet.call('/', { token: null })
      expect(await answer(response)).toEqual([200, { message: 'Claude Code API Gateway', docs: '/docs', health: '/health' }])
    })

    it('is healthy in one object that holds what the clients of all four servers look for', async () => {
      const cli = gate()
      const health = async () => (await answer(await fleet.call('/health', { token: null })))[1] as Json & { concurrency: { queued: number } }
      await fleet.runner({ turn: cli.turn, slots: 1 })
      await fleet.start({ prompt: 'first' })
      await cli.running('first')
      const second = await fleet.start({ prompt: 'second' })
      await until('somebody to be seen waiting', async () => (await health()).concurrency.queued > 0)
      const number = expect.any(Number) as number
      const memory = { rss: number, heapTotal: number, heapUsed: number, external: number, arrayBuffers: number }
      expect(await health()).toEqual({
        status: 'ok',
        version: expect.any(String),
        uptime: number,
        timestamp: expect.stringMatching(/^\d{4}-.*Z$/),
        claude_path: 'claude',
        claude_version: '0.0.0-test',
        concurrency: { active: number, max: number, queued: number },
        memory,
      })
      await cli.finish('first')
      await cli.finish('second')
      await fleet.until(second.id, 'succeeded')
    })
  })
  compatClaudecode2apiRefusals(host)
}
