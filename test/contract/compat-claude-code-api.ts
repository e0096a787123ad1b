/** The dialect of claude-code-api, request by request: what its clients send, and the shapes that they read. */
import { beforeEach, describe, expect, it } from 'vitest'
import { Fault } from '../../shared/faults.ts'
import type { RunSpec } from '../../shared/run-spec.ts'
import { admins, startFleet, type Fleet, type Json } from '../kit/fleet.ts'
import type { Host } from '../kit/host.ts'
import { readSse } from '../kit/sse.ts'
import { gate, print, resultAt, type Turn } from '../kit/turns.ts'
import { until } from '../kit/wait.ts'
import { tenantEach } from './tenants.ts'

const INIT = '{"type":"system","subtype":"init"}'
const ERROR = (error: string) => `data: ${JSON.stringify({ type: 'error', error })}`
type Ask = (body: unknown, init?: RequestInit & { token?: string | null }) => Promise<Response>

const asker =
  (fleet: () => Fleet): Ask =>
  (body, init = {}) =>
    fleet().call('/api/claude', { method: 'POST', body: typeof body === 'string' ? body : JSON.stringify(body), ...init })
const answer = async (response: Response): Promise<[number, Json]> => [response.status, (await response.json()) as Json]

export function compatClaudeCodeApi(host: Host): void {
  describe('claude-code-api', () => {
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
    const ask = asker(() => fleet)
    /** What the CLI is asked for by this body. */
    async function specOf(body: object): Promise<RunSpec> {
      const response = await ask({ prompt: 'hello', ...body })
      const text = await response.text()
      if (response.status !== 200) throw new Error(`${response.status}: ${text}`)
      return specs.at(-1)!
    }

    it('streams what the CLI prints as unnamed events, and closes without a word', async () => {
      await fleet.runner({ turn })
      const response = await ask({ prompt: 'hello' })
      expect(response.status).toBe(200)
      expect(Object.fromEntries(response.headers)).toMatchObject({
        'content-type': 'text/event-stream',
        'cache-control': 'no-cache',
        'x-run-id': expect.stringMatching(/^run_/),
      })
      expect(await response.text()).toBe(`retry: 500\n\nid: 2\ndata: ${INIT}\n\nid: 3\ndata: {"type":"result","result":"hello"}\n\nid: 4\n: end\n\n`)
    })

    it('understands all of its fields, under the names of both versions', async () => {
      await fleet.runner({ turn })
      expect(Object.keys(await specOf({})).toSorted()).toEqual(['prompt', 'session', 'tenant', 'timeout_s'])
      expect(specs[0]!.timeout_s).toBe(3_600)
      expect(await specOf({ allowedTools: ['Read', 'Bash(git log:*),Edit'], disallowedTools: 'WebFetch', 'dangerously-skip-permissions': 'false' })).toMatchObject({
        allowed_tools: ['Read', 'Bash(git log:*)', 'Edit'],
        disallowed_tools: ['WebFetch'],
      })
      const later = { workspace: 'shop', 'system-prompt': 'Be brief.', 'allowed-tools': ['Read'], 'disallowed-tools': ['Edit'], 'mcp-allowed-tools': ['mcp__a__b'] }
      expect(await specOf(later)).toMatchObject({
        workspace: 'shop',
        system_prompt: 'Be brief.',
        allowed_tools: ['Read', 'mcp__a__b'],
        disallowed_tools: ['Edit'],
      })
      expect((await specOf({ prompt: 5, unknown: {}, session_id: null, allowedTools: [] })).prompt).toBe('5')
    })

    it('goes on with a session by every id that it was seen under', async () => {
      await fleet.runner({ turn })
      const { session } = await specOf({})
      expect((await specOf({ session_id: session.id })).session).toEqual({ mode: 'resume', id: session.id })
      const forked = (await (await fleet.run({ prompt: 'fork', session_id: session.id, fork_session: true })).json()) as { session_id: string }
      for (const id of [session.id, forked.session_id, session.id.toUpperCase()]) {
        expect((await specOf({ 'session-id': id, workspace: 'elsewhere' })).session).toEqual({ mode: 'resume', id: id.toLowerCase() })
      }
      expect(specs.at(-1)!.workspace).toBeUndefined()
    })

    it('says in the stream that there is no such session, whatever the id looks like', async () => {
      await fleet.runner({ turn })
      const theirs = await fleet.as(`${fleet.tenant}-other`)
      await theirs.runner({ turn })
      const foreign = (await (await theirs.run({ prompt: 'x' })).json()) as { session_id: string }
      for (const id of [crypto.randomUUID(), foreign.session_id, 'latest', '--resume']) {
        const response = await ask({ prompt: 'x', session_id: id })
        expect([response.status, response.headers.get('content-type'), await response.text()]).toEqual([200, 'text/event-stream', `${ERROR('Session not found')}\n\n`])
      }
    })

    it('says in the stream that the CLI could not be started', async () => {
      await fleet.runner({ turn, prepare: () => Promise.reject(new Fault('cli', 'the CLI is not there')) })
      const response = await ask({ prompt: 'x' })
      expect([response.status, await response.text()]).toEqual([200, `${ERROR('the CLI is not there')}\n\n`])
    })

    it('says in the stream that the CLI did not get to its end', async () => {
      const ends: Record<string, Turn> = {
        crash: (sink) => {
          sink.line(Buffer.from(INIT))
          return Promise.resolve({ code: 1 })
        },
        fail: (sink) => {
          const seq = sink.line(Buffer.from('{"type":"result","is_error":true}'))
          return Promise.resolve({ code: 1, result: { ...resultAt(seq), is_error: true, error: { code: 'rate_limited', message: 'slow down' } } })
        },
      }
      await fleet.runner({ turn: (sink, offer, stopped) => ends[offer.spec.prompt]!(sink, offer, stopped) })
      const crash = await readSse(await ask({ prompt: 'crash' }))
      expect(crash.events.map(({ event, data }) => [event, data])).toEqual([
        [undefined, INIT],
        [undefined, '{"type":"error","error":"the CLI ended without a result"}'],
      ])
      expect((await readSse(await ask({ prompt: 'fail' }))).events.map(({ data }) => data)).toEqual(['{"type":"result","is_error":true}'])
    })

    it('says what is wrong with a body as Fastify does', async () => {
      const refusal = async (body: unknown) => {
        const [status, said] = await answer(await ask(body))
        expect([status, said]).toMatchObject([400, { statusCode: 400, code: expect.any(String), error: 'Bad Request' }])
        return said['message']
      }
      expect(await answer(await ask({}))).toEqual([
        400,
        { statusCode: 400, code: 'FST_ERR_VALIDATION', error: 'Bad Request', message: "body must have required property 'prompt'" },
      ])
      expect(await refusal([])).toBe('body must be object')
      expect(await refusal({ prompt: {} })).toBe('body/prompt must be string')
      expect(await refusal({ prompt: ' ' })).toBe('body/prompt must NOT be blank')
      expect(await refusal({ prompt: 'x', allowedTools: {} })).toBe('body/allowedTools must be array')
      expect(await refusal({ prompt: 'x', allowedTools: [1] })).toBe('body/allowedTools/0 must be string')
      expect(await refusal({ prompt: 'x', allowedTools: ['--yes'] })).toMatch(/^body\/allowedTools\/0 is not a tool name/)
      expect(await refusal({ prompt: 'x', 'dangerously-skip-permissions': 'maybe' })).toBe('body/dangerously-skip-permissions must be boolean')
      expect(await refusal({ prompt: 'x', workspace: '../etc' })).toMatch(/^body\/workspace must be 1 to 63/)
      expect(await refusal({ prompt: 'x', session_id: 'a', 'session-id': 'b' })).toMatch(/must be the same$/)
      expect(await refusal({ prompt: 'x', project_path: '/srv' })).toBe('body/project_path is a field of ccs: its requests go to /api/messages')
      expect(await refusal('{"prompt"')).toBe("Body is not valid JSON but content-type is set to 'application/json'")
    })

    it('says 401, 403, 404, 413 and 415 in its own words', async () => {
      expect(await answer(await ask({ prompt: 'x' }, { token: null }))).toEqual([
        401,
        { error: { message: 'Invalid authentication credentials', type: 'invalid_request_error', code: 'invalid_api_key' } },
      ])
      expect(await answer(await ask({ prompt: 'x', 'dangerously-skip-permissions': true }))).toEqual([
        403,
        { statusCode: 403, error: 'Forbidden', message: 'dangerously-skip-permissions: bypassPermissions needs the scope runs:bypass' },
      ])
      expect(await answer(await fleet.call('/api/claude'))).toEqual([404, { statusCode: 404, error: 'Not Found', message: 'Route GET:/api/claude not found' }])
      expect(await answer(await ask({ prompt: 'x'.repeat(1024 * 1024) }))).toMatchObject([413, { code: 'FST_ERR_CTP_BODY_TOO_LARGE', error: 'Payload Too Large' }])
      expect(await answer(await ask('prompt=x', { headers: { 'content-type': 'application/x-www-form-urlencoded' } }))).toMatchObject([
        415,
        { statusCode: 415, code: 'FST_ERR_CTP_INVALID_MEDIA_TYPE', error: 'Unsupported Media Type' },
      ])
    })

    it('ends a run whose client has left, unless the client wanted it to go on', async () => {
      const cli = gate()
      await fleet.runner({ turn: cli.turn })
      const leave = async (prompt: string, body: object) => {
        const gone = new AbortController()
        const response = await ask({ prompt, ...body }, { signal: gone.signal })
        await cli.running(prompt)
        gone.abort()
        return response.headers.get('x-run-id')!
      }
      const kept = await leave('kept', { 'on-disconnect': 'detach' })
      const left = await leave('left', {})
      await until('the run to be cancelled', async () => (await fleet.get(left)).status === 'cancelled', 2 * host.can.seesClientLeaveWithinMs + 10_000)
      expect(await fleet.get(kept)).toMatchObject({ status: 'running' })
      await cli.finish('kept')
    })
  })

  describe('claude-code-api without a token', () => {
    const set = async (fleet: Fleet, settings: object) => {
      const response = await fleet.call('/admin/v1/compat', { method: 'PUT', token: fleet.adminToken, body: JSON.stringify(settings) })
      return answer(response)
    }

    it('is for nobody until an operator says whose tenant they are, and only there, and only for so long', async () => {
      const fleet = await startFleet(host, {})
      try {
        const guests = await fleet.as('guests')
        const cli = gate()
        await guests.runner({ turn: cli.turn })
        const ask = asker(() => fleet)
        const nobody = { token: null } as const
        expect((await ask({ prompt: 'x' }, nobody)).status).toBe(401)
        expect(await set(guests, {})).toMatchObject([403, { code: 'forbidden' }])
        expect(await set(fleet, { claude_code_api: { anonymous: { tenant: 'nowhere' } } })).toMatchObject([404, { detail: 'no tenant nowhere' }])
        const open = { claude_code_api: { anonymous: { tenant: 'guests', narrowing: { models: ['haiku'] } } } }
        expect(await set(fleet, open)).toMatchObject([200, { claude_code_api: { enabled: true, queue_timeout_s: 30, timeout_s: 3_600, ...open.claude_code_api } }])

        const response = await ask({ prompt: 'guest' }, nobody)
        await cli.running('guest')
        const [run] = await guests.list()
        expect([response.status, run]).toMatchObject([200, { status: 'running', model: 'haiku' }])
        expect((await ask({ prompt: 'x', 'dangerously-skip-permissions': true }, nobody)).status).toBe(403)
        // Nobody allows himself a tool that is not on the list, under whatever name he asks for it.
        const refused = { statusCode: 403, error: 'Forbidden', message: expect.stringMatching(/^allowedTools: Bash takes a token/) }
        expect(await answer(await ask({ prompt: 'x', allowedTools: ['Bash'] }, nobody))).toEqual([403, refused])
        expect(await answer(await ask({ prompt: 'x', 'allowed-tools': 'Read,Bash' }, nobody))).toMatchObject([403, { message: expect.stringContaining('Read takes') }])
        expect((await ask({ prompt: 'x', 'mcp-allowed-tools': ['mcp__a__b'] }, nobody)).status).toBe(403)
        const listed = { claude_code_api: { anonymous: { ...open.claude_code_api.anonymous, allowed_tools: ['Read', 'Bash(git log:*)'] } } }
        expect((await set(fleet, listed))[0]).toBe(200)
        expect(await answer(await ask({ prompt: 'x', allowedTools: ['Read', 'Bash(git log:*)', 'Bash'] }, nobody))).toEqual([403, refused])
        const allowed = await ask({ prompt: 'tools', allowedTools: ['Read', 'Bash(git log:*)'] }, nobody)
        expect(allowed.status).toBe(200)
        await cli.finish('tools')
        await allowed.text()
        // A token that is brought counts, be it good or bad.
        expect((await ask({ prompt: 'x' }, { token: 'garbage' })).status).toBe(401)
        for (const [method, path] of [['GET', '/v1/runs'], ['POST', '/v1/runs'], ['GET', '/processes'], ['POST', '/chat'], ['GET', '/admin/v1/compat']] as const) {
          const elsewhere = await fleet.call(path, { method, token: null, ...(method === 'POST' ? { body: '{"prompt":"x","cwd":"/work"}' } : {}) })
          expect([path, elsewhere.status]).toEqual([path, 401])
        }
        // What is streaming ends with the setting; whoever runs it goes on until its client is missed.
        const ended = response.text()
        expect(await set(fleet, {})).toMatchObject([200, {}])
        expect((await ask({ prompt: 'x' }, nobody)).status).toBe(401)
        expect(await ended).not.toContain('"type":"error"')
        const { data } = (await (await fleet.call('/admin/v1/audit?action=compat.update', { token: fleet.adminToken })).json()) as { data: Json[] }
        expect(data).toMatchObject([{ target: 'compat' }, { target: 'compat' }, { target: 'compat' }])
      } finally {
        await fleet.close()
      }
    })

    it('ends what is streaming when the family is switched off', async () => {
      const fleet = await startFleet(host, {})
      try {
        const cli = gate()
        await fleet.runner({ turn: cli.turn })
        const anonymous = { tenant: 'default' }
        await set(fleet, { claude_code_api: { anonymous } })
        const response = await asker(() => fleet)({ prompt: 'guest', 'on-disconnect': 'detach' }, { token: null })
        await cli.running('guest')
        const ended = response.text()
        expect((await set(fleet, { claude_code_api: { enabled: false, anonymous } }))[0]).toBe(200)
        expect(await ended).not.toContain('"type":"result"')
        await cli.finish('guest')
      } finally {
        await fleet.close()
      }
    })

    it('is not for web pages that nobody has listed', async () => {
      const fleet = await startFleet(host, { corsOrigins: ['https://chat.example'] })
      try {
        await set(fleet, { claude_code_api: { anonymous: { tenant: 'default' } } })
        const from = (origin: string) => asker(() => fleet)({}, { token: null, headers: { origin } })
        const listed = await from('https://chat.example')
        expect([listed.status, listed.headers.get('access-control-allow-origin')]).toEqual([400, 'https://chat.example'])
        const other = await from('https://evil.example')
        expect([other.headers.get('access-control-allow-origin'), await answer(other)]).toMatchObject([null, [403, { statusCode: 403, error: 'Forbidden' }]])
      } finally {
        await fleet.close()
      }
    })

    it('is limited like everybody else', async () => {
      const fleet = await startFleet(host, {})
      try {
        await admins(fleet, 'tenants', { id: 'guests' })
        const rates = { write: { rate: 0.001, burst: 2 } }
        await set(fleet, { claude_code_api: { anonymous: { tenant: 'guests', narrowing: { rates } } } })
        const ask = () => asker(() => fleet)({}, { token: null })
        expect([(await ask()).status, (await ask()).status]).toEqual([400, 400])
        const third = await ask()
        expect([third.headers.get('retry-after'), await answer(third)]).toEqual([
          expect.stringMatching(/^\d+$/),
          [429, { statusCode: 429, error: 'Too Many Requests', message: expect.stringContaining('with this token') }],
        ])
      } finally {
        await fleet.close()
      }
    })

    it('is over for a tenant that is disabled, and for a family that is switched off', async () => {
      const fleet = await startFleet(host, {})
      try {
        const ask = asker(() => fleet)
        await admins(fleet, 'tenants', { id: 'guests' })
        await set(fleet, { claude_code_api: { anonymous: { tenant: 'guests' } } })
        const disable = { method: 'PATCH', token: fleet.adminToken, body: '{"disabled":true}' }
        expect((await fleet.call('/admin/v1/tenants/guests', disable)).status).toBe(200)
        expect(await answer(await ask({ prompt: 'x' }, { token: null }))).toMatchObject([403, { message: 'the tenant guests is disabled' }])
        await set(fleet, { claude_code_api: { enabled: false }, claudecode2api: { enabled: false } })
        for (const path of ['/api/claude', '/chat']) {
          const response = await fleet.call(path, { method: 'POST', body: '{"prompt":"x"}' })
          expect([response.headers.get('content-type'), await answer(response)]).toMatchObject(['application/problem+json', [404, { code: 'not_found' }]])
        }
      } finally {
        await fleet.close()
      }
    })
  })
}
