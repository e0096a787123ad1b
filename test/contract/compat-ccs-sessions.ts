/** Sessions of ccs, their turns, and streams that are cut and go on. */
import { beforeEach, describe, expect, it } from 'vitest'
import { admins, type Fleet, type Json } from '../kit/fleet.ts'
import type { Host } from '../kit/host.ts'
import { eventBytes, readSse, type Stream } from '../kit/sse.ts'
import { echo, print, resultAt, type Turn } from '../kit/turns.ts'
import { until } from '../kit/wait.ts'
import { asked, no, NOWHERE, type Answer } from './compat-ccs-kit.ts'
import { tenantEach } from './tenants.ts'

/** Prints its pieces as the test lets them go, and ends when it is told to. */
function typewriter() {
  let sink: Parameters<Turn>[0] | undefined
  let finish: (seq: number) => void = () => undefined
  const turn: Turn = async (to, _offer, stopped) => {
    const ended = new Promise<number>((resolve) => (finish = resolve))
    sink = to
    const seq = await Promise.race([ended, stopped.then(() => 0)])
    return seq === 0 ? {} : { result: resultAt(seq) }
  }
  const line = async (value: object): Promise<number> => (await until('the turn to begin', () => sink)).line(Buffer.from(JSON.stringify(value)))
  return {
    turn,
    line,
    say: (text: string) => line({ type: 'stream_event', event: { type: 'content_block_delta', delta: { type: 'text_delta', text } } }),
    async end(result: string) {
      finish(await line({ type: 'result', result }))
      sink = undefined
    },
  }
}

export function ccsSessions(host: Host): void {
  describe('sessions of ccs', () => {
    const current = tenantEach(host)
    let fleet: Fleet
    beforeEach(() => void (fleet = current()))
    const call = (method: string, path: string, body?: unknown): Promise<Answer> => asked(fleet, method, path, body)
    const made = async (body: Json = {}): Promise<Json & { id: string }> => {
      const [status, { session }] = await call('POST', '/api/sessions', { project_path: '/work/p', ...body })
      expect(status).toBe(201)
      return session as Json & { id: string }
    }

    it('are made, listed, found, put aside and taken away', async () => {
      const session = await made({ model: 'm', metadata: { ticket: 'R-7' } })
      expect(session).toEqual({
        id: expect.stringMatching(/^[0-9a-f-]{36}$/),
        created_at: expect.any(String),
        updated_at: expect.any(String),
        model: 'm',
        project_path: '/work/p',
        total_cost_usd: 0,
        messages_count: 0,
        status: 'active',
        metadata: { ticket: 'R-7' },
      })
      const path = `/api/sessions/${session.id}`
      const { metadata: _, ...stats } = session
      expect(await call('GET', path)).toEqual([200, { success: true, session }])
      expect(await call('GET', `${path}/stats`)).toEqual([200, { success: true, stats }])
      const list = { success: true, sessions: [session], count: 1 }
      for (const query of ['', '?status=active', `?project_path=${encodeURIComponent('/work/p')}&limit=5`, '/search?q=R-7&limit=100', `/search?q=${session.id.slice(0, 8)}`]) {
        expect(await call('GET', `/api/sessions${query}`)).toEqual([200, list])
      }
      expect(await call('GET', '/api/sessions?status=closed')).toEqual([200, { success: true, sessions: [], count: 0 }])
      expect(await call('GET', `/api/sessions/search?q=${'%'.repeat(256).replaceAll('%', '%25')}`)).toEqual([200, { success: true, sessions: [], count: 0 }])
      expect(await call('GET', '/api/sessions/search')).toEqual([400, no('"q" is required')])
      expect(await call('GET', '/api/sessions/search?q=x&limit=101')).toEqual([400, no('"limit" must be less than or equal to 100')])
      expect(await call('PATCH', `${path}/status`, { status: 'archived' })).toMatchObject([200, { success: true, session: { id: session.id, status: 'archived' } }])
      for (const status of ['open', 5, undefined]) {
        expect(await call('PATCH', `${path}/status`, { status })).toEqual([400, no('Invalid status. Must be: active, archived, or closed')])
      }
      expect(await call('DELETE', path)).toEqual([200, { success: true }])
      for (const id of [session.id, NOWHERE, 'x']) {
        const gone = [404, no('Session not found')]
        expect(await call('DELETE', `/api/sessions/${id}`)).toEqual(gone)
        expect(await call('PATCH', `/api/sessions/${id}/status`, { status: 'active' })).toEqual(gone)
        for (const what of ['', '/stats', '/messages', '/stream/status', '/stream/resume']) expect(await call('GET', `/api/sessions/${id}${what}`)).toEqual(gone)
      }
      expect(await call('POST', '/api/sessions', {})).toEqual([400, no('"project_path" is required')])
      expect(await call('POST', '/api/sessions', { project_path: '/x', metadata: 'x' })).toEqual([400, no('"metadata" must be of type object')])
    })

    it('go on with all that a turn asks for, and remember what was said', async () => {
      const specs: unknown[] = []
      await fleet.runner({ turn: (sink, offer, stopped) => (specs.push(offer.spec), echo(sink, offer, stopped)) })
      const { id } = await made({ model: 'm' })
      const body = { system_prompt: 'S', max_budget_usd: 3, allowed_tools: ['Read'], disallowed_tools: ['Bash'], permission_mode: 'plan' }
      expect(await call('POST', `/api/sessions/${id}/continue`, { prompt: 'one', ...body })).toMatchObject([200, { success: true, result: 'one', session_id: id, cost_usd: 0.5 }])
      expect(specs[0]).toMatchObject({ ...body, model: 'm', cwd: '/work/p', session: { mode: 'new', id } })
      expect(await call('POST', `/api/sessions/${id}/continue`, { prompt: 'two', max_budget_usd: 3 })).toMatchObject([200, { result: 'two' }])
      expect(specs[1]).toMatchObject({ max_budget_usd: 2.5, session: { mode: 'resume', id } })
      const [, said] = await call('GET', `/api/sessions/${id}/messages?limit=3`)
      const messages = said['messages'] as Json[]
      expect(messages.map(({ role, content }) => [role, content])).toEqual([['assistant', 'two'], ['user', 'two'], ['assistant', 'one']])
      expect(messages[0]).toEqual({ id: expect.stringMatching(/^msg_/), session_id: id, role: 'assistant', content: 'two', created_at: expect.any(String), metadata: expect.objectContaining({ cost_usd: 0.5 }), status: 'completed' })
      expect(said).toMatchObject({ success: true, session_id: id, count: 3, pagination: { has_more: true, first_id: messages[0]!['id'], last_id: messages[2]!['id'] } })
      const [, older] = await call('GET', `/api/sessions/${id}/messages?before_id=${String(messages[2]!['id'])}`)
      expect(older).toMatchObject({ count: 1, messages: [{ role: 'user', content: 'one' }], pagination: { has_more: false } })
      expect(await call('GET', `/api/sessions/${id}/stats`)).toMatchObject([200, { stats: { messages_count: 4, total_cost_usd: 1 } }])
    })

    it('fail as they did: all of it is a 500, but for what is no request', async () => {
      await fleet.runner({ turn: () => Promise.resolve({}) })
      const { id } = await made()
      const next = (session: string, body: Json = { prompt: 'x' }) => call('POST', `/api/sessions/${session}/continue`, body)
      expect(await next(NOWHERE)).toEqual([500, no(`Session not found: ${NOWHERE}`)])
      expect(await next(id, {})).toEqual([400, no('"prompt" is required')])
      expect(await next(id, { prompt: 'x', stream: true })).toEqual([501, no('Streaming is not yet implemented')])
      expect(await next(id)).toMatchObject([500, no('the CLI ended without a result')])
      await call('PATCH', `/api/sessions/${id}/status`, { status: 'closed' })
      expect(await next(id)).toEqual([500, no('Session is not active: closed')])
      expect(await call('POST', `/api/sessions/${id}/continue/stream`, { prompt: 'x' })).toEqual([400, no('Session is not active: closed')])
      expect(await call('POST', `/api/sessions/${NOWHERE}/continue/stream`, { prompt: 'x' })).toEqual([404, no('Session not found')])
    })

    it('go with their directory, whose turns are ended all at once', async () => {
      let stopped = 0
      const turn: Turn = async (sink, offer, stop) => {
        if (offer.spec.prompt === 'short') return echo(sink, offer, stop)
        await stop
        stopped++
        // One after another would wait for each other for ever.
        await until('the others to be told, too', () => stopped === 3)
        return {}
      }
      await fleet.runner({ turn, slots: 4 })
      await call('POST', '/api/messages', { prompt: 'short', project_path: '/work/q' })
      const long = [1, 2, 3].map(() => call('POST', '/api/messages', { prompt: 'long', project_path: '/work/q' }))
      await until('them to run', async () => (await fleet.list('?status=running')).length === 3)
      expect(await call('DELETE', '/api/projects/work/q')).toEqual([200, { success: true, message: 'Project deleted', deleted_sessions: 4 }])
      for (const answer of await Promise.all(long)) expect(answer).toMatchObject([500, no('the run was cancelled')])
      expect(await call('GET', '/api/sessions')).toEqual([200, { success: true, sessions: [], count: 0 }])
    })

    describe('stream', () => {
      const open = (id: string, body: Json = { prompt: 'x' }) => fleet.call(`/api/sessions/${id}/continue/stream`, { method: 'POST', body: JSON.stringify(body) })
      const resume = (id: string, stream: string, headers: Record<string, string> = {}) => fleet.call(`/api/sessions/${id}/stream/resume?stream_id=${stream}`, { headers })
      const messages = ({ events }: Stream) => events.filter(({ event }) => event === 'message')

      it('every line of the CLI, then done, under a name', async () => {
        await fleet.runner({ turn: echo })
        const { id } = await made()
        const response = await open(id)
        const { headers } = response
        expect([headers.get('content-type'), headers.get('x-session-id')]).toEqual(['text/event-stream; charset=utf-8', id])
        expect(headers.get('cache-control')).toContain('no-cache')
        expect(headers.get('x-stream-id')).toMatch(/^stream_[0-9a-f]{16}$/)
        const stream = await readSse(response)
        expect(stream.events.map(({ event }) => event)).toEqual(['message', 'message', 'done'])
        expect(messages(stream).map(({ data }) => data)).toEqual(['{"type":"system"}', '{"type":"result","result":"x"}'])
        expect(JSON.parse(stream.events.at(-1)!.data)).toEqual({ session_id: id, duration_ms: expect.any(Number), cost_usd: 0.5 })
      })

      it.each<[string, Turn, Json]>([
        ['a CLI that ended', () => Promise.resolve({ code: 7 }), { error: 'Process exited with code 7', details: 'the CLI ended without a result' }],
        [
          'a run that failed',
          (sink) => {
            const seq = sink.line(Buffer.from('{"type":"result"}'))
            return Promise.resolve({ result: { ...resultAt(seq), is_error: true, error: { code: 'max_budget', message: 'Budget exceeded' } } })
          },
          { error: 'Budget exceeded', details: 'max_budget' },
        ],
      ])('an error of %s', async (_what, turn, error) => {
        await fleet.runner({ turn })
        const { events } = await readSse(await open((await made()).id))
        expect([events.at(-1)!.event, JSON.parse(events.at(-1)!.data)]).toEqual(['error', error])
      })

      it('goes on after a cut, from wherever that was, with the very bytes', async () => {
        const cli = typewriter()
        await fleet.runner({ turn: cli.turn })
        const { id } = await made()
        const response = await open(id)
        const name = response.headers.get('x-stream-id')!
        const whole = readSse(response)
        await cli.say('Hel')
        const seen = await cli.say('lo ')
        const status = await until('the text to be there', async () => {
          const answer = await call('GET', `/api/sessions/${id}/stream/status`)
          return ((answer[1]['stream'] ?? {}) as Json)['content_length'] === 6 && answer
        })
        expect(status).toEqual([
          200,
          { success: true, has_active_stream: true, stream: { stream_id: name, status: 'running', content_length: 6, started_at: expect.any(String) } },
        ])
        const [anew, cut] = [await resume(id, name), await resume(id, name, { 'last-event-id': String(seen) })]
        const earlier = await resume(id, name, { 'last-event-id': String(seen - 1) })
        const reading = [readSse(anew), readSse(cut), readSse(earlier)]
        await cli.line({ type: 'assistant', message: { content: [{ type: 'text', text: 'Hello 漢字' }] } })
        await cli.say('漢字')
        await cli.end('Hello 漢字')
        const uncut = eventBytes((await whole).bytes).toString()
        const [fromNow, fromCut, fromEarlier] = await Promise.all(reading)
        const first = (stream: Stream) => [stream.events[0]!.event, JSON.parse(stream.events[0]!.data)]
        expect([fromNow, fromCut].map((stream) => first(stream!))).toEqual([1, 2].map(() => ['message', { type: 'resumed', content: 'Hello ' }]))
        expect(first(fromEarlier!)).toEqual(['message', { type: 'resumed', content: 'Hel' }])
        for (const stream of [fromNow!, fromCut!, fromEarlier!]) {
          expect(stream.events.at(-1)!.event).toBe('done')
          const text = eventBytes(stream.bytes).toString()
          const rest = text.slice(text.indexOf('\n\n') + 2)
          expect(rest.length).toBeGreaterThan(100)
          expect(uncut.endsWith(rest)).toBe(true)
        }
        expect(fromCut!.events.slice(1).map((event) => Number(event.id))).toEqual([seen + 1, seen + 2, seen + 3, seen + 4])
      })

      it('is JSON once it has ended, or what was missed of it, and nothing when nothing was', async () => {
        const cli = typewriter()
        await fleet.runner({ turn: cli.turn })
        const { id } = await made()
        const response = await open(id)
        const name = response.headers.get('x-stream-id')!
        const whole = readSse(response)
        await cli.say('Hello')
        await cli.end('Hello')
        const { events, bytes } = await whole
        const metadata = { cost_usd: 0.5, duration_ms: expect.any(Number), success: true }
        const path = `/api/sessions/${id}/stream`
        expect(await call('GET', `${path}/resume?stream_id=${name}`)).toEqual([200, { success: true, status: 'completed', stream_id: name, content: 'Hello', metadata }])
        expect(await call('GET', `${path}/status`)).toEqual([200, { success: true, has_active_stream: false }])
        const missed = await readSse(await resume(id, name, { 'last-event-id': events[0]!.id! }))
        expect(eventBytes(bytes).toString().endsWith(eventBytes(missed.bytes).toString().split('\n\n').slice(1).join('\n\n'))).toBe(true)
        expect(missed.events.map(({ event }) => event)).toEqual(['message', 'message', 'done'])
        expect((await resume(id, name, { 'last-event-id': events.at(-1)!.id! })).status).toBe(204)
        expect(await call('GET', `${path}/resume?stream_id=${name}&after=99`)).toMatchObject([400, no(expect.stringContaining('has not happened'))])
        expect(await call('GET', `${path}/resume`)).toEqual([400, no('stream_id is required')])
        for (const unknown of ['x', 'stream_0000000000000000']) expect(await call('GET', `${path}/resume?stream_id=${unknown}`)).toEqual([404, no('Stream not found')])
        const other = await made()
        expect(await call('GET', `/api/sessions/${other.id}/stream/resume?stream_id=${name}`)).toEqual([400, no('Stream does not belong to this session')])
      })

      it('has a name of its own, however many begin at once, and goes on under that', async () => {
        const text = (value: string) => JSON.stringify({ type: 'assistant', message: { content: [{ type: 'text', text: value }] } })
        await fleet.runner({ turn: print(({ spec }) => [text(spec.prompt), '{"type":"result"}']) })
        const { id } = await made()
        await (await open(id)).text()
        const prompts = ['a', 'b', 'c', 'd']
        const names = await Promise.all(
          prompts.map(async (prompt) => {
            const response = await open(id, { prompt })
            await response.text()
            return response.headers.get('x-stream-id')!
          }),
        )
        expect(new Set(names).size).toBe(4)
        const said = await Promise.all(names.map(async (name) => ((await (await resume(id, name)).json()) as Json)['content']))
        expect(said).toEqual(prompts)
      })

      it('has the end of a text that is too long for an answer, and says so', async () => {
        const delta = (text: string) => JSON.stringify({ type: 'stream_event', event: { type: 'content_block_delta', delta: { type: 'text_delta', text } } })
        await fleet.runner({ turn: print(() => [...Array.from({ length: 6 }, (_, i) => delta(String(i).repeat(100_000))), '{"type":"result"}']) })
        const { id } = await made()
        const response = await open(id)
        const name = response.headers.get('x-stream-id')!
        await response.text()
        const { content, truncated } = (await (await resume(id, name)).json()) as { content: string; truncated?: true }
        expect([content.length, content[0], content.at(-1), truncated]).toEqual([524_288, '0', '5', true])
      })

      it('is not begun by a page of another site, which would need no more than a picture for it', async () => {
        const prompts: string[] = []
        await fleet.runner({ turn: (sink, offer, stopped) => (prompts.push(offer.spec.prompt), echo(sink, offer, stopped)) })
        const { id } = await made()
        const from = (site: string, more: Record<string, string> = {}) =>
          fleet.call(`/api/sessions/${id}/continue/stream?prompt=${site}`, { headers: { 'sec-fetch-site': site, ...more } })
        for (const site of ['cross-site', 'same-site']) {
          const refused = await from(site)
          expect([refused.status, await refused.json()]).toEqual([403, no('a page of another site cannot begin a turn')])
        }
        for (const site of ['same-origin', 'none']) expect((await readSse(await from(site))).events.at(-1)!.event).toBe('done')
        expect(prompts).toEqual(['same-origin', 'none'])
      })

      it('is a start, also when it is asked for by GET: it is counted as one', async () => {
        await fleet.runner({ turn: echo })
        const { id } = await made()
        const limits = { rates: { write: { rate: 0.01, burst: 1 } } }
        const { token } = await admins<{ token: string }>(fleet, 'tokens', { kind: 'app', subject: 'limited', limits })
        const get = (prompt: string) => fleet.call(`/api/sessions/${id}/continue/stream?prompt=${prompt}`, { token })
        const first = await get('x')
        expect([first.status, (await readSse(first)).events.at(-1)!.event]).toEqual([200, 'done'])
        const second = await get('y')
        expect([second.status, await second.json()]).toEqual([429, { ...no('Too many requests, please try again later.'), retryAfter: expect.any(Number) }])
      })

      it('can be asked for by an EventSource, which begins a turn once however often it comes back', async () => {
        const prompts: string[] = []
        const cli = typewriter()
        await fleet.runner({ turn: (sink, offer, stopped) => (prompts.push(offer.spec.prompt), cli.turn(sink, offer, stopped)) })
        const { id } = await made()
        const url = `/api/sessions/${id}/continue/stream?prompt=${encodeURIComponent('say it')}`
        expect((await fleet.call(url, { method: 'HEAD' })).status).toBe(200)
        const first = await fleet.call(url)
        expect(first.status).toBe(200)
        const seen = await cli.say('a')
        const { events } = await readSse(first, (some) => some.length === 1)
        expect(events[0]!.id).toBe(String(seen))
        const again = [fleet.call(url, { headers: { 'last-event-id': String(seen) } }), fleet.call(url, { headers: { 'last-event-id': '0' } })]
        const reading = again.map(async (response) => readSse(await response))
        await cli.say('b')
        await cli.end('ab')
        const [rest, all] = await Promise.all(reading)
        expect(rest!.events.map(({ event }) => event)).toEqual(['message', 'message', 'done'])
        expect(all!.events.map(({ event }) => event)).toEqual(['message', 'message', 'message', 'done'])
        expect(prompts).toEqual(['say it'])
        expect((await fleet.call(url, { headers: { 'last-event-id': all!.events.at(-1)!.id! } })).status).toBe(204)
        expect(await call('GET', `/api/sessions/${id}/continue/stream`)).toEqual([400, no('"prompt" is required')])
      })
    })
  })
}
