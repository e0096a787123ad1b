/** The dialect of claudecode2api, request by request: what its clients send, and the shapes that they read. */
import { beforeEach, describe, expect, it } from 'vitest'
import { Fault } from '../../shared/faults.ts'
import type { RunSpec } from '../../shared/run-spec.ts'
import { admins, type Fleet, type Json } from '../kit/fleet.ts'
import type { Host } from '../kit/host.ts'
import { readSse } from '../kit/sse.ts'
import { gate, print, resultAt, type Turn } from '../kit/turns.ts'
import { until } from '../kit/wait.ts'
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
    const chat = (body: unknown, init: RequestInit = {}) => fleet.call('/chat', { method: 'POST', body: typeof body === 'string' ? body : JSON.stringify(body), ...init })
    const answer = async (response: Response): Promise<[number, Json]> => [response.status, (await response.json()) as Json]
    /** What the CLI is asked for by this body. */
    async function specOf(body: object): Promise<RunSpec> {
      const response = await chat({ prompt: 'hello', cwd: '/work', ...body })
      const text = await response.text()
      if (response.status !== 200) throw new Error(`${response.status}: ${text}`)
      return specs.at(-1)!
    }
    /** The list of a 422. */
    async function mistakes(body: unknown): Promise<Json[]> {
      const [status, { detail }] = await answer(await chat(body))
      expect(status).toBe(422)
      return detail as Json[]
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

    it('refuses a bypass that is asked for by name, where it may not be', async () => {
      const refused = async (body: object) => answer(await chat({ prompt: 'x', cwd: '/work', ...body }))
      expect(await refused({ permission_mode: 'bypassPermissions' })).toEqual([
        403,
        { detail: 'permission_mode: bypassPermissions needs the scope runs:bypass' },
      ])
      expect(await refused({ agents: { a: { permissionMode: 'bypassPermissions' } } })).toEqual([
        403,
        { detail: 'agents.a.permissionMode: bypassPermissions needs the scope runs:bypass' },
      ])
    })

    it('says what is wrong with a body as FastAPI does, all of it at once', async () => {
      expect(await mistakes({})).toEqual([
        { type: 'missing', loc: ['body', 'prompt'], msg: 'Field required', input: {} },
        { type: 'missing', loc: ['body', 'cwd'], msg: 'Field required', input: {} },
      ])
      const wrong = { prompt: 1, cwd: null, tools: 'Read', allowed_tools: ['Read', 2], fork_session: 'maybe', verbose: [], json_schema: [], debug: {} }
      expect(await mistakes(wrong)).toEqual([
        { type: 'string_type', loc: ['body', 'prompt'], msg: 'Input should be a valid string', input: 1 },
        { type: 'string_type', loc: ['body', 'cwd'], msg: 'Input should be a valid string', input: null },
        { type: 'bool_parsing', loc: ['body', 'fork_session'], msg: 'Input should be a valid boolean, unable to interpret input', input: 'maybe' },
        { type: 'list_type', loc: ['body', 'tools'], msg: 'Input should be a valid list', input: 'Read' },
        { type: 'string_type', loc: ['body', 'allowed_tools', 1], msg: 'Input should be a valid string', input: 2 },
        { type: 'string_type', loc: ['body', 'debug', 'str'], msg: 'Input should be a valid string', input: {} },
        { type: 'bool_type', loc: ['body', 'debug', 'bool'], msg: 'Input should be a valid boolean', input: {} },
        { type: 'bool_type', loc: ['body', 'verbose'], msg: 'Input should be a valid boolean', input: [] },
        { type: 'dict_type', loc: ['body', 'json_schema'], msg: 'Input should be a valid dictionary', input: [] },
      ])
      expect(await mistakes('{"prompt": ')).toMatchObject([{ type: 'json_invalid', loc: ['body', expect.any(Number)], msg: 'JSON decode error' }])
      expect(await mistakes([])).toMatchObject([{ type: 'model_attributes_type', loc: ['body'], input: [] }])
      const empty = await fleet.call('/chat', { method: 'POST' })
      expect(await answer(empty)).toEqual([422, { detail: [{ type: 'missing', loc: ['body'], msg: 'Field required', input: null }] }])
    })

    it('says which values there are, where a value is none of them', async () => {
      const body = { prompt: 'x', cwd: '/work' }
      expect(await mistakes({ ...body, permission_mode: 'yolo' })).toEqual([
        {
          type: 'enum',
          loc: ['body', 'permission_mode'],
          msg: "Input should be 'default', 'acceptEdits', 'plan', 'dontAsk', 'auto' or 'bypassPermissions'",
          input: 'yolo',
        },
      ])
      expect(await mistakes({ ...body, model: '--yes' })).toMatchObject([{ type: 'value_error', loc: ['body', 'model'], input: '--yes' }])
      expect(await mistakes({ ...body, allowed_tools: ['Read', '--yes'] })).toMatchObject([{ loc: ['body', 'allowed_tools', 1], input: '--yes' }])
      expect(await mistakes({ ...body, mcp_config: ['{"a":'] })).toMatchObject([{ loc: ['body', 'mcp_config', 0] }])
      expect(await mistakes({ ...body, fork_session: true })).toMatchObject([{ loc: ['body', 'fork_session'] }])
      expect(await mistakes({ ...body, prompt: ' \n' })).toMatchObject([{ loc: ['body', 'prompt'], input: ' \n' }])
      expect(await mistakes({ ...body, on_disconnect: 'stay' })).toMatchObject([{ loc: ['body', 'on_disconnect'], input: 'stay' }])
    })

    it('refuses by its name what would run programs of the caller on the machine', async () => {
      for (const [field, value] of [['settings', '/etc/x.json'], ['plugin_dir', ['/tmp/p']], ['mcp_config', ['/tmp/mcp.json']]] as const) {
        const [status, { detail }] = await answer(await chat({ prompt: 'x', cwd: '/work', [field]: value }))
        expect([status, detail]).toEqual([400, expect.stringMatching(new RegExp(`^${field}: .*refused`))])
      }
    })

    it('says 401, 404, 405, 413 and 415 in its own words', async () => {
      const body = JSON.stringify({ prompt: 'x', cwd: '/work' })
      const ask = async (init: RequestInit & { token?: string | null }, path = '/chat') => {
        const response = await fleet.call(path, { method: 'POST', body, ...init })
        return [...(await answer(response)), response.headers.get('www-authenticate') ?? response.headers.get('allow')]
      }
      expect(await ask({ token: null })).toEqual([401, { detail: 'Not authenticated' }, 'Basic'])
      expect(await ask({ headers: { authorization: `Basic ${btoa('admin:wrong horse')}` } })).toEqual([401, { detail: 'Invalid credentials' }, 'Basic'])
      expect(await ask({ headers: { 'content-type': 'text/plain' } })).toMatchObject([415, { detail: expect.stringContaining('JSON') }, null])
      expect(await ask({ body: JSON.stringify({ prompt: 'x'.repeat(1024 * 1024) }) })).toMatchObject([413, { detail: expect.any(String) }, null])
      expect(await ask({ method: 'PUT' })).toEqual([405, { detail: 'Method Not Allowed' }, 'POST'])
      expect(await ask({}, '/chat/x/y')).toEqual([404, { detail: 'Not Found' }, null])
      const weak = await admins<{ token: string }>(fleet, 'tokens', { kind: 'app', subject: 'weak', scopes: ['runs:read'] })
      expect(await ask({ token: weak.token })).toMatchObject([403, { detail: 'the token lacks the scope runs:write' }, null])
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

    it('names a directory that cannot be used, before the stream begins', async () => {
      await fleet.runner({ turn, prepare: ({ spec }) => Promise.reject(new Fault('cwd', `"${spec.cwd}" is not a folder inside the workspace`)) })
      expect(await answer(await chat({ prompt: 'x', cwd: '/nowhere' }))).toEqual([400, { detail: 'Directory does not exist: /nowhere' }])
      expect(await answer(await chat({ prompt: 'x', cwd: '' }))).toEqual([400, { detail: 'Directory does not exist: ' }])
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
}
