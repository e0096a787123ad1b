/** What clients of claude-code-server are answered, byte for byte where they may look at bytes. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { admins, startFleet, type Fleet } from '../kit/fleet.ts'
import type { Host } from '../kit/host.ts'
import { readSse } from '../kit/sse.ts'
import { gate, resultAt, type Turn } from '../kit/turns.ts'
import type { Offer } from '../../shared/frames.ts'
import { Fault } from '../../shared/faults.ts'
import { mint } from '../../router/guard/tokens.ts'
import { tenantEach } from './tenants.ts'

const INIT = '{"type":"system","subtype":"init","cwd":"/work"}'
/** Spaces and the order of its keys are the CLI's own. */
const RESULT = '{"type":"result", "subtype":"success","is_error":false,"result":"hi €","total_cost_usd":0.5,"num_turns":1}'
const MAX_TURNS = '{"type":"result","subtype":"error_max_turns","is_error":true,"num_turns":2}'
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/

/** What the prompt asks for. */
const turn: Turn = (sink, { spec }) => {
  sink.line(Buffer.from(INIT))
  if (spec.prompt === 'complain') sink.mark({ kind: 'stderr', text: 'a warning\nof two lines', truncated: false })
  if (spec.prompt === 'garbage') sink.line(Buffer.from('no JSON'))
  if (spec.prompt === 'crash') return Promise.resolve({ code: 3 })
  const failed = spec.prompt === 'too many turns'
  const seq = sink.line(Buffer.from(failed ? MAX_TURNS : RESULT))
  const error = { code: 'max_turns', message: 'reached the maximum number of turns' } as const
  return Promise.resolve(failed ? { code: 1, result: { ...resultAt(seq), is_error: true, error } } : { result: resultAt(seq) })
}

export function claudeCodeServer(host: Host): void {
  describe('claude-code-server', () => {
    const current = tenantEach(host)
    let fleet: Fleet
    let specs: Offer['spec'][]
    beforeEach(() => {
      fleet = current()
      specs = []
    })

    const withRunner = (more: Partial<Parameters<Fleet['runner']>[0]> = {}) =>
      fleet.runner({
        turn: (sink, offer, stopped) => {
          specs.push(offer.spec)
          return turn(sink, offer, stopped)
        },
        ...more,
      })
    const send = (path: string, body: unknown, { method = 'POST', ...headers }: Record<string, string> = {}) =>
      fleet.call(path, {
        method,
        token: null,
        headers: { 'x-api-key': fleet.token, ...headers },
        ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
      })
    const ask = (body: unknown, headers: Record<string, string> = {}) => send('/ask', body, headers)
    const refusal = async (response: Response) => {
      const { error, ...rest } = (await response.json()) as { error: { code: string; message: string; requestId: string } }
      expect(rest).toEqual({})
      expect(Object.keys(error)).toEqual(['code', 'message', 'requestId'])
      expect(error.requestId).toBe(response.headers.get('x-request-id'))
      expect(response.headers.get('content-type')).toBe('application/json; charset=utf-8')
      return [response.status, error.code, error.message]
    }

    it('answers with the result as the CLI wrote it', async () => {
      await withRunner()
      const response = await ask({ prompt: 'hello', unknown: 'dropped' }, { 'x-request-id': 'mine-1' })
      expect(response.status).toBe(200)
      expect(response.headers.get('content-type')).toBe('application/json; charset=utf-8')
      expect(response.headers.get('x-request-id')).toBe('mine-1')
      expect(await response.text()).toBe(RESULT)
      const own = await ask({ prompt: 'hello' })
      expect(own.headers.get('x-request-id')).toMatch(UUID)
    })

    it('streams the lines as they are, complaints beside them, and the exit code at the end', async () => {
      await withRunner()
      const response = await ask({ prompt: 'complain', stream: true })
      expect(response.status).toBe(200)
      expect(response.headers.get('content-type')).toMatch(/^text\/event-stream/)
      expect(response.headers.get('cache-control')).toContain('no-cache')
      expect(response.headers.get('x-content-type-options')).toBe('nosniff')
      const { text, events } = await readSse(response)
      const plain = text.replaceAll(/^(?:id|retry): .*\n|^: .*\n\n/gm, '').replace(/^\n/, '')
      expect(plain).toBe(
        `data: ${INIT}\n\nevent: error\ndata: {"error":"a warning\\nof two lines"}\n\ndata: ${RESULT}\n\nevent: done\ndata: {"code":0}\n\n`,
      )
      expect(events.map(({ event }) => event)).toEqual([undefined, 'error', undefined, 'done'])
    })

    it('streams a line that is no JSON too, and why a run ended that has no result', async () => {
      await withRunner()
      const garbage = await readSse(await ask({ prompt: 'garbage', stream: true }))
      expect(garbage.events.map(({ data }) => data)).toEqual([INIT, 'no JSON', RESULT, '{"code":0}'])
      const crash = await readSse(await ask({ prompt: 'crash', stream: true }))
      expect(crash.events.map(({ event, data }) => [event, data])).toEqual([
        [undefined, INIT],
        ['error', expect.stringContaining('crashed')],
        ['done', '{"code":3}'],
      ])
      expect(await refusal(await ask({ prompt: 'crash' }))).toEqual([500, 'INTERNAL_ERROR', expect.stringMatching(/^crashed: /)])
    })

    it('says that the turns are used up, once, and does not go on in silence', async () => {
      await withRunner()
      const response = await ask({ prompt: 'too many turns', maxTurns: 2 })
      expect([response.status, await response.text()]).toEqual([200, MAX_TURNS])
      const { events } = await readSse(await ask({ prompt: 'too many turns', maxTurns: 2, stream: true }))
      expect(events.map(({ data }) => data)).toEqual([INIT, MAX_TURNS, '{"code":1}'])
      expect(specs).toHaveLength(2)
    })

    it('hands on what it is asked for', async () => {
      await withRunner()
      const schema = { type: 'object', properties: { n: { type: 'integer' } } }
      const wish = { agent: 'code-review', maxTurns: '7', systemPrompt: 'Be brief.', model: 'haiku', permissionMode: 'plan' }
      const body = { prompt: '--help', cwd: './a//b/', ...wish, allowedTools: 'Read, Bash(git log:*)', jsonSchema: schema }
      expect((await ask(body)).status).toBe(200)
      expect(specs[0]).toMatchObject({
        prompt: '--help',
        cwd: 'a/b',
        agent: 'code-review',
        max_turns: 7,
        system_prompt: 'Be brief.',
        model: 'haiku',
        permission_mode: 'plan',
        allowed_tools: ['Read', 'Bash(git log:*)'],
        json_schema: schema,
        timeout_s: 900,
      })
      await ask({ prompt: 'x', allowedTools: ['Read'] })
      expect(specs[1]).toMatchObject({ cwd: '.', allowed_tools: ['Read'] })
    })

    it('goes on with a session where it is, also when its directory is named again', async () => {
      await withRunner()
      const first = await ask({ prompt: 'one', cwd: 'sub/deep' })
      expect(first.status).toBe(200)
      const session = specs[0]!.session.id
      for (const cwd of [undefined, 'sub/deep']) expect((await ask({ prompt: 'two', resume: session, ...(cwd ? { cwd } : {}) })).status).toBe(200)
      expect(specs.slice(1).map((spec) => spec.session)).toEqual([
        { mode: 'resume', id: session },
        { mode: 'resume', id: session },
      ])
      // The last one is another folder, whose name is only like the end of it.
      for (const cwd of ['elsewhere', 'sub', '.', 'deep']) expect((await refusal(await ask({ prompt: 'x', resume: session, cwd }))).slice(0, 2)).toEqual([400, 'INVALID_CWD'])
      const nobodys = '00000000-0000-4000-8000-000000000000'
      expect(await refusal(await ask({ prompt: 'x', resume: nobodys }))).toEqual([404, 'NOT_FOUND', `no session ${nobodys}`])
    })

    it('leaves out the bypass that nobody asked for where the token is not good for it, and says so', async () => {
      await withRunner()
      const { token } = await admins<{ token: string }>(fleet, 'tokens', { kind: 'app', subject: 'plain', scopes: ['runs:write'] })
      const response = await ask({ prompt: 'hello' }, { 'x-api-key': token })
      expect([response.status, response.headers.get('runyard-bypass')]).toEqual([200, 'not-applied; because=scope'])
      expect(specs[0]!.permission_mode).toBeUndefined()
      expect((await ask({ prompt: 'hello', permissionMode: 'default' }, { 'x-api-key': token })).headers.get('runyard-bypass')).toBeNull()
    })

    it('refuses in its own words', async () => {
      const badKey = await send('/ask', { prompt: 'x' }, { 'x-api-key': 'wrong-0123456789' })
      expect(await refusal(badKey)).toEqual([401, 'UNAUTHORIZED', 'Invalid or missing API key'])
      expect(await refusal(await fleet.call('/ask', { method: 'POST', token: null, body: '{}' }))).toEqual([401, 'UNAUTHORIZED', 'Invalid or missing API key'])
      for (const cwd of ['../..', '/etc', 'a/../../b']) {
        expect(await refusal(await ask({ prompt: 'x', cwd }))).toEqual([400, 'INVALID_CWD', 'cwd must be within the workspace directory'])
      }
      expect(await refusal(await ask({}))).toEqual([400, 'REQUEST_ERROR', "body must have required property 'prompt'"])
      expect(await refusal(await ask('{"prompt"'))).toEqual([400, 'REQUEST_ERROR', expect.any(String)])
      expect(await refusal(await ask('x', { 'content-type': 'text/plain' }))).toEqual([415, 'REQUEST_ERROR', expect.any(String)])
      expect(await refusal(await ask({ prompt: 'x', systemPrompt: 'x'.repeat(1024 * 1024) }))).toEqual([413, 'REQUEST_ERROR', expect.any(String)])
      for (const [path, method] of [['/ask', 'GET'], ['/ask/', 'POST'], ['/config', 'GET'], ['/config/nothing', 'GET']] as const) {
        expect(await refusal(await send(path, undefined, { method })), path).toEqual([404, 'NOT_FOUND', expect.any(String)])
      }
      const codeOf = ({ spec }: Offer) => (spec.agent === undefined ? 'cwd' : 'agent_not_found')
      await withRunner({ prepare: (offer) => Promise.reject(new Fault(codeOf(offer), 'what the machine says')) })
      expect(await refusal(await ask({ prompt: 'x', cwd: 'nowhere' }))).toEqual([400, 'INVALID_CWD', 'cwd must be within the workspace directory'])
      expect(await refusal(await ask({ prompt: 'x', agent: 'nobody', stream: true }))).toEqual([400, 'AGENT_NOT_FOUND', "Agent 'nobody' not found"])
    })

    it('says where a caller stands, and that it has asked too often', async () => {
      const narrowing = { rates: { read: { rate: 0.001, burst: 2 } } }
      const who = { kind: 'app', tenant: fleet.tenant, subject: 'hasty', jti: crypto.randomUUID(), scopes: ['config:read'], ttlS: 600, narrowing } as const
      const { token } = await mint(fleet.host.keys, who, Date.now())
      const look = () => send('/config/agents', undefined, { method: 'GET', 'x-api-key': token })
      const first = await look()
      expect([first.status, first.headers.get('x-ratelimit-limit'), first.headers.get('x-ratelimit-remaining')]).toEqual([200, '2', '1'])
      await look()
      const third = await look()
      expect([third.headers.get('x-ratelimit-remaining'), Number(third.headers.get('x-ratelimit-reset'))]).toEqual(['0', expect.any(Number)])
      expect(Number(third.headers.get('retry-after'))).toBeGreaterThan(0)
      expect(await refusal(third)).toEqual([429, 'REQUEST_ERROR', expect.any(String)])
    })

    it('guards its answers as helmet would', async () => {
      const { headers } = await send('/config/agents', undefined, { method: 'GET' })
      expect(headers.get('strict-transport-security')).toBe('max-age=31536000; includeSubDomains')
      expect([headers.get('x-frame-options'), headers.get('x-content-type-options')]).toEqual(['DENY', 'nosniff'])
    })

    it('keeps the files of its CLI', async () => {
      const as = (method: string) => ({ method, 'x-api-key': fleet.adminToken })
      const one = { agents: 'agent', skills: 'skill', rules: 'rule' }
      for (const [kind, name] of Object.entries(one)) {
        const path = `/config/${kind}/my-file`
        expect(await refusal(await send(path, undefined, as('GET')))).toEqual([404, 'NOT_FOUND', `${name} not found`])
        const made = await send(path, { content: '---\ndescription: Does things\n---\nText €' }, as('PUT'))
        expect([made.status, await made.json()]).toEqual([201, { name: 'my-file' }])
        const content = '---\nname: my-file\ndescription: Does more\n---\nText'
        const again = await send(path, { content }, as('PUT'))
        expect([again.status, await again.json()]).toEqual([200, { name: 'my-file' }])
        expect(await (await send(path, undefined, as('GET'))).json()).toEqual({ name: 'my-file', content })
        const list = await send(`/config/${kind}?limit=1`, undefined, as('GET'))
        expect(await list.json()).toEqual({ items: [{ name: 'my-file', description: 'Does more' }], count: 1, total: 1, limit: 1, offset: 0 })
        const gone = await send(path, undefined, as('DELETE'))
        expect([gone.status, await gone.text()]).toEqual([204, ''])
        expect(await refusal(await send(path, undefined, as('DELETE')))).toEqual([404, 'NOT_FOUND', `${name} not found`])
      }
      expect(await refusal(await send('/config/agents/No_Name', undefined, as('GET')))).toEqual([400, 'REQUEST_ERROR', expect.any(String)])
      expect(await refusal(await send('/config/agents/x', {}, as('PUT')))).toEqual([400, 'REQUEST_ERROR', "body must have required property 'content'"])
      expect(await refusal(await send('/config/agents?limit=201', undefined, as('GET')))).toEqual([400, 'REQUEST_ERROR', 'querystring/limit must be <= 200'])
    })

    it('keeps one CLAUDE.md', async () => {
      const path = '/config/claude-md'
      const put = async (content: string) => {
        const response = await send(path, { content }, { method: 'PUT', 'x-api-key': fleet.adminToken })
        return [response.status, await response.json()]
      }
      expect(await refusal(await send(path, undefined, { method: 'GET' }))).toEqual([404, 'NOT_FOUND', 'CLAUDE.md not found'])
      expect(await put('Be kind.')).toEqual([201, { updated: true }])
      expect(await put('Be brief.')).toEqual([200, { updated: true }])
      expect(await (await send(path, undefined, { method: 'GET' })).json()).toEqual({ content: 'Be brief.' })
    })
  })

  describe('claude-code-server when nobody can answer', () => {
    let fleet: Fleet
    beforeAll(async () => void (fleet = await startFleet(host, {})))
    afterAll(() => fleet.close())
    const ask = (prompt: string, more: RequestInit = {}) => fleet.call('/ask', { method: 'POST', body: JSON.stringify({ prompt }), ...more })
    const settings = async (claude_code_server: object) => {
      const init = { method: 'PUT', token: fleet.adminToken, body: JSON.stringify({ claude_code_server }) }
      expect((await fleet.call('/admin/v1/compat', init)).status).toBe(200)
    }

    it('is busy where no slot comes free in time, and says when no machine is there at all', async () => {
      await settings({ enabled: true, queue_timeout_s: 0 })
      const nobody = await ask('nobody')
      expect(nobody.status).toBe(503)
      expect(await nobody.json()).toMatchObject({ error: { code: 'SERVER_BUSY', message: expect.stringContaining('is connected') } })
      const cli = gate()
      const runner = await fleet.runner({ turn: cli.turn, slots: 1 })
      const first = ask('first')
      await cli.running('first')
      const busy = await ask('second')
      expect([busy.status, busy.headers.has('retry-after')]).toEqual([429, true])
      expect(await busy.json()).toMatchObject({ error: { code: 'SERVER_BUSY', message: 'Server is busy, try again later' } })
      await cli.finish('first')
      expect((await first).status).toBe(200)
      await runner.stop()
    })

    it('makes a client of no dialect wait longer than an operator says', async () => {
      const families = ['claudecode2api', 'ccs', 'claude_code_server', 'claude_code_api'].map((family) => [family, { queue_timeout_s: 0 }])
      const set = { method: 'PUT', token: fleet.adminToken, body: JSON.stringify(Object.fromEntries(families)) }
      expect((await fleet.call('/admin/v1/compat', set)).status).toBe(200)
      for (const path of ['/chat', '/api/messages', '/ask', '/api/claude']) {
        const signal = AbortSignal.timeout(5_000)
        const body = JSON.stringify(path === '/chat' ? { prompt: 'x', cwd: '/work' } : { prompt: 'x' })
        const refusal = await fleet.call(path, { method: 'POST', body, signal })
        // Nothing was run, so nothing is said of how.
        expect([path, refusal.status, refusal.headers.get('runyard-bypass')]).toEqual([path, 503, null])
      }
    })

    it.runIf(host.can.seesWaitingClientLeave)('ends a run whose client has left without its answer', async () => {
      const cli = gate()
      const runner = await fleet.runner({ turn: cli.turn })
      const patience = new AbortController()
      const asked = ask('leave', { signal: patience.signal })
      await cli.running('leave')
      patience.abort()
      await expect(asked).rejects.toThrow('aborted')
      const [run] = await fleet.list()
      await fleet.until(run!.id, 'cancelled')
      await runner.stop()
    })

    it('is not there when it is switched off', async () => {
      await settings({ enabled: false })
      for (const path of ['/ask', '/config/agents']) {
        const response = await fleet.call(path)
        expect([response.status, response.headers.get('content-type')]).toEqual([404, 'application/problem+json'])
      }
      await settings({ enabled: true })
      expect((await fleet.call('/config/agents')).status).toBe(200)
    })
  })
}
