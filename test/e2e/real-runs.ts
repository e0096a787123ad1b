/**
 * What a run by the real CLI is for whoever asked for it, on either host: router, runner and CLI as separate processes,
 * against a scripted Messages API on loopback.
 */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { enlist, type Enlisted, type EnlistOptions } from '../kit/enlist.ts'
import { newMachine, processesWith, type Machine } from '../kit/processes.ts'
import { eventBytes, idsOf, readSse, type Stream } from '../kit/sse.ts'
import { until } from '../kit/wait.ts'
import { error, startModel, text, toolUse, type Model } from '../model/scripted.ts'

type Json = Record<string, unknown>

export function realRuns(options: EnlistOptions = {}): void {
  let machine: Machine
  let model: Model
  let fleet: Enlisted

  beforeAll(async () => {
    machine = await newMachine()
    model = await startModel()
    fleet = await enlist(machine, model, options)
    await fleet.online(fleet.startRunner([`--workspace=${machine.workspace}`]))
  })
  afterAll(async () => {
    await machine.close()
    await model.close()
  })

  const stream = async (body: Json) => readSse(await fleet.start(body))
  const doneOf = (s: Stream) => JSON.parse(s.events.at(-1)!.data) as Json & { error?: { code: string } }
  const runOf = async (s: Stream) => (await (await fleet.call(`/v1/runs/${String(doneOf(s)['id'])}`)).json()) as Json & { result: string }
  const lines = (s: Stream) => s.events.filter((e) => e.event === 'message').map((e) => JSON.parse(e.data) as Json & { type: string })

  it('answers with text, numbered from started to done', async () => {
    model.script(() => text('Hello from the model.'))
    const s = await stream({ prompt: 'Say hello.' })
    expect(s.events[0]!.event).toBe('started')
    expect(s.events.at(-1)!.event).toBe('done')
    expect(idsOf(s.events)).toEqual(s.events.map((_, i) => i + 1))
    expect(lines(s).map((l) => l.type)).toEqual(expect.arrayContaining(['system', 'assistant', 'result']))
    expect(doneOf(s)).toMatchObject({ status: 'succeeded', provider: 'local', is_error: false, num_turns: 1 })
    expect(await runOf(s)).toMatchObject({ result: 'Hello from the model.', usage: expect.objectContaining({ output_tokens: expect.any(Number) }) })
    expect(model.main().at(-1)!.prompt).toBe('Say hello.')
  })

  it('streams partial messages when asked to', async () => {
    model.script(() => text('one two three', { chunks: 3 }))
    const s = await stream({ prompt: 'Count.', include_partial_messages: true })
    const deltas = lines(s).flatMap((l) => {
      const event = l['event'] as { delta?: { text?: string } } | undefined
      return l.type === 'stream_event' && event?.delta?.text !== undefined ? [event.delta.text] : []
    })
    expect(deltas.length).toBeGreaterThanOrEqual(3)
    expect(deltas.join('')).toBe('one two three')
  })

  it('lets the model write a file, which is there afterwards', async () => {
    const write = toolUse('Write', { file_path: join(machine.workspace, 'hello.txt'), content: 'hello\n' })
    model.script((request) => (request.raw.includes('"tool_result"') ? text('done') : write))
    const s = await stream({ prompt: 'Write hello.txt', cwd: machine.workspace, permission_mode: 'acceptEdits' })
    expect(doneOf(s)).toMatchObject({ status: 'succeeded', num_turns: 2 })
    expect(await readFile(join(machine.workspace, 'hello.txt'), 'utf8')).toBe('hello\n')
  })

  it('continues a session where it was, and forks a copy of it', async () => {
    model.script(() => text('I will remember.'))
    const first = await stream({ prompt: 'Remember the word marmalade.' })
    const session = String(doneOf(first)['session_id'])
    model.script(() => text('marmalade'))
    const second = await stream({ prompt: 'Which word?', session_id: session })
    expect(doneOf(second)).toMatchObject({ status: 'succeeded', session_id: session })
    expect(model.main().at(-1)!.raw).toContain('Remember the word marmalade.')
    const fork = await stream({ prompt: 'And in the copy?', session_id: session, fork_session: true })
    expect(doneOf(fork)['session_id']).not.toBe(session)
    expect(model.main().at(-1)!.raw).toContain('Which word?')
    const moved = await fleet.start({ prompt: 'Elsewhere?', session_id: session, cwd: machine.workspace })
    expect(moved.status).toBe(400)
    expect(await moved.json()).toMatchObject({ code: 'session_cwd' })
  })

  it('brings 2 MB of three-byte characters through byte for byte', async () => {
    const answer = '€漢字'.repeat(233_000)
    model.script(() => text(answer, { chunks: 50 }))
    const s = await stream({ prompt: 'Say much.' })
    const assistant = lines(s).find((l) => l.type === 'assistant') as unknown as { message: { content: { text: string }[] } }
    expect(assistant.message.content[0]!.text === answer).toBe(true)
    expect((await runOf(s)).result === answer).toBe(true)
  })

  it.each([
    [429, 'rate_limit_error', 'rate_limited'],
    [529, 'overloaded_error', 'overloaded'],
  ])('says failed with the right code when the provider answers %i', async (status, type, code) => {
    model.script(() => error(status, type, 'not now', { 'x-should-retry': 'false' }))
    const s = await stream({ prompt: 'Try.' })
    expect(doneOf(s)).toMatchObject({ status: 'failed', is_error: true, error: { code } })
  })

  it('leaves nothing alive of a run that is cancelled during a sleeping tool', async () => {
    const marker = `sleep 6${Date.now() % 100_000}`
    model.script((_request) => toolUse('Bash', { command: marker, description: 'sleep' }))
    const response = await fleet.start({ prompt: 'Sleep.', allowed_tools: ['Bash'] })
    const id = response.headers.get('x-run-id')!
    const reading = readSse(response)
    await until('the tool to run', async () => (await processesWith(marker.replace(' ', '\0'))).length > 0, 20_000)
    const asked = performance.now()
    expect((await fleet.call(`/v1/runs/${id}/cancel`, { method: 'POST' })).status).toBe(202)
    const s = await reading
    expect(doneOf(s)).toMatchObject({ status: 'cancelled', error: { code: 'cancelled' } })
    expect(await processesWith(marker.replace(' ', '\0'))).toEqual([])
    expect(performance.now() - asked).toBeLessThan(10_000)
    expect((await fleet.call(`/v1/runs/${id}/cancel`, { method: 'POST' })).status).toBe(200)
  })

  it('replays a finished run from any id with the bytes of the first stream', async () => {
    model.script(() => text('again and again', { chunks: 4 }))
    const first = await stream({ prompt: 'Once.', include_partial_messages: true })
    const id = String(doneOf(first)['id'])
    for (const after of [0, 1, 3, first.events.length - 1]) {
      const replay = await readSse(await fleet.call(`/v1/runs/${id}/events`, { headers: { 'last-event-id': String(after) } }))
      const whole = eventBytes(first.bytes)
      const rest = eventBytes(replay.bytes)
      expect(idsOf(replay.events)).toEqual(first.events.slice(after).map((e) => Number(e.id)))
      expect(whole.subarray(whole.length - rest.length).equals(rest)).toBe(true)
    }
    expect((await fleet.call(`/v1/runs/${id}/events?after=${first.events.length}`)).status).toBe(204)
  })

  it.each([
    ['a directory that is not there', { cwd: 'nowhere' }, 400, 'cwd'],
    ['an agent that nobody defined', { agent: 'nobody' }, 400, 'agent_not_found'],
    ['a session that does not exist', { session_id: '00000000-0000-4000-8000-000000000000' }, 404, 'session_not_found'],
    ['a mode that the owner does not allow', { mcp_config: { mcpServers: {} } }, 403, 'policy'],
  ])('refuses %s before the stream starts', async (_what, body, status, code) => {
    const response = await fleet.start({ prompt: 'hi', ...body })
    expect(response.status).toBe(status)
    expect(response.headers.get('content-type')).toContain('application/problem+json')
    expect(await response.json()).toMatchObject({ code, request_id: expect.any(String) })
  })

  it('ends a run that takes longer than its timeout_s', async () => {
    model.script(() => async () => new Promise(() => undefined))
    const s = await stream({ prompt: 'Wait.', timeout_s: 1 })
    expect(doneOf(s)).toMatchObject({ status: 'failed', error: { code: 'timeout' } })
  })
}
