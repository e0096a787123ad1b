/** The snippets of docs/compat/claudecode2api.md, as they stand there: real clients, real processes, the real CLI. */
import { EventSource } from 'eventsource'
import { realpath } from 'node:fs/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { enlist, type Enlisted } from '../kit/enlist.ts'
import { newMachine, processesWith, type Machine } from '../kit/processes.ts'
import { output, snippetsOf, type Snippet } from '../kit/snippets.ts'
import { readSse } from '../kit/sse.ts'
import { until } from '../kit/wait.ts'
import { startModel, text, toolUse, type Model } from '../model/scripted.ts'

const PASSWORD = 'correct horse battery'

describe('the snippets for clients of claudecode2api', () => {
  let machine: Machine
  let model: Model
  let fleet: Enlisted
  let snippets: Snippet[]
  let env: Record<string, string>

  beforeAll(async () => {
    snippets = await snippetsOf('docs/compat/claudecode2api.md')
    machine = await newMachine()
    model = await startModel()
    fleet = await enlist(machine, model)
    await fleet.online(fleet.startRunner([`--workspace=${machine.workspace}`]))
    const made = await fleet.admin('/admin/v1/tokens', { method: 'POST', body: '{"kind":"admin"}' })
    const { token } = (await made.json()) as { token: string }
    env = { HOME: machine.home, URL: fleet.url, PASSWORD, WORKSPACE: machine.workspace, ADMIN_TOKEN: token }
    await output(snippets[0]!, env)
  })
  afterAll(async () => {
    await machine.close()
    await model.close()
  })

  const basic = () => ({ authorization: `Basic ${btoa(`admin:${PASSWORD}`)}`, 'content-type': 'application/json' })
  const chat = (body: object, init: RequestInit = {}) =>
    fetch(`${fleet.url}/chat`, { method: 'POST', headers: basic(), body: JSON.stringify({ cwd: machine.workspace, ...body }), ...init })
  const nth = (language: string, n: number) => snippets.filter((snippet) => snippet.language === language)[n - 1]!

  it('are all run here', () => {
    expect(snippets.map(({ language }) => language)).toEqual(['sh', 'sh', 'python', 'python', 'js', 'sh'])
  })

  it('curl prints the events', async () => {
    model.script(() => text('Hello.'))
    const printed = await output(nth('sh', 2), env)
    const lines = printed.split('\r\n')
    expect(lines.filter((line) => line.startsWith('event: ')).at(-1)).toBe('event: done')
    const types = lines.filter((line) => line.startsWith('data: {')).map((line) => (JSON.parse(line.slice(6)) as { type?: string }).type)
    expect(types).toEqual(expect.arrayContaining(['system', 'assistant', 'result']))
    expect(printed.replaceAll('\r\n', '')).not.toContain('\n')
    const { model: asked } = model.main().at(-1)!.body as { model: string }
    expect(asked).toContain('sonnet')
  })

  it('requests reads the text', async () => {
    model.script(() => text('Hello €.'))
    expect(await output(nth('python', 1), env)).toBe('process 36\nHello €.\ncost True\n')
  })

  it('the standard library reads the names of the events', async () => {
    const names = (await output(nth('python', 2), env)).trim().split('\n')
    expect([names[0], names.at(-1)]).toEqual(['message', 'done'])
  })

  it('node reads chunk by chunk, and never half an event', async () => {
    model.script(() => text('Hello. '.repeat(3_000)))
    expect(await output(nth('js', 1), env)).toBe(`${'Hello. '.repeat(3_000)}\ntrue\n`)
  })

  it('curl looks at what runs', async () => {
    expect(await output(nth('sh', 3), env)).toBe(
      '{"processes":[],"count":0}{"detail":"Process not found: 00000000-0000-0000-0000-000000000000"}{"message":"Claude Code API Gateway","docs":"/docs","health":"/health"}',
    )
  })

  it('a session goes on where it was begun, and its fork beside it', async () => {
    model.script(() => text('I will remember.'))
    const sessionOf = async (body: object) => {
      const response = await chat(body)
      const { events } = await readSse(response)
      return (JSON.parse(events.at(-2)!.data) as { session_id: string }).session_id
    }
    const session = await sessionOf({ prompt: 'Remember the word marmalade.' })
    expect(await sessionOf({ prompt: 'Which word?', session_id: session })).toBe(session)
    const fork = await sessionOf({ prompt: 'And here?', session_id: session, fork_session: true })
    expect(fork).not.toBe(session)
    for (const id of [session, fork]) {
      expect(await sessionOf({ prompt: 'On.', session_id: id })).toBe(id)
      expect(model.main().at(-1)!.raw).toContain('marmalade')
    }
  })

  it('an empty list of tools is no tools', async () => {
    await readSse(await chat({ prompt: 'Say hello.', tools: [] }))
    const { tools = [] } = JSON.parse(model.main().at(-1)!.raw) as { tools?: unknown[] }
    expect(tools).toEqual([])
  })

  it('a process that is cancelled is gone, with what it had started', async () => {
    const marker = `sleep-${crypto.randomUUID()}`
    model.script((request) => (request.raw.includes('"tool_result"') ? text('done') : toolUse('Bash', { command: `exec -a ${marker} sleep 300` })))
    const response = await chat({ prompt: 'Sleep.', allowed_tools: ['Bash'] })
    await until('the tool to run', async () => (await processesWith(marker)).length > 0)
    const id = response.headers.get('x-process-id')!
    const listed = (await (await fetch(`${fleet.url}/processes`, { headers: basic() })).json()) as { processes: unknown[] }
    expect(listed.processes).toMatchObject([{ process_id: id, cwd: await realpath(machine.workspace), model: 'sonnet' }])
    const cancelled = await fetch(`${fleet.url}/chat/${id}`, { method: 'DELETE', headers: basic() })
    expect([cancelled.status, await cancelled.json()]).toEqual([200, { status: 'cancelled', process_id: id }])
    expect(await processesWith(marker)).toEqual([])
    expect((await readSse(response)).events.at(-1)).toMatchObject({ event: 'error' })
  })

  it('a directory that is not there, and one that is outside, are refused in the same words', async () => {
    for (const cwd of ['/nowhere', '/etc', '../..']) {
      const response = await chat({ prompt: 'x', cwd })
      expect([response.status, await response.json()]).toEqual([400, { detail: `Directory does not exist: ${cwd}` }])
    }
  })

  it('an EventSource comes back to a run by its id', async () => {
    model.script(() => text('Hello again.'))
    const response = await chat({ prompt: 'Say hello.', on_disconnect: 'detach' })
    await readSse(response, (events) => events.length > 0)
    const source = new EventSource(`${fleet.url}/v1/runs/${response.headers.get('x-run-id')!}/events`, {
      fetch: (input, init) => fetch(input, { ...init, headers: { ...init.headers, ...basic() } }),
    })
    const lines: string[] = []
    await new Promise<void>((resolve) => {
      source.addEventListener('message', ({ data }) => lines.push(String(data)))
      source.addEventListener('done', () => resolve())
    })
    source.close()
    expect(lines.map((line) => (JSON.parse(line) as { type: string }).type)).toEqual(expect.arrayContaining(['system', 'assistant', 'result']))
  })
})
