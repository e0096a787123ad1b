/** The snippets of docs/compat/ccs.md, as they stand there: real clients, real processes, the real CLI. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { enlist, type Enlisted } from '../kit/enlist.ts'
import { newMachine, processesWith, type Machine } from '../kit/processes.ts'
import { output, snippetsOf, type Snippet } from '../kit/snippets.ts'
import { eventBytes, readSse } from '../kit/sse.ts'
import { until } from '../kit/wait.ts'
import { startModel, text, toolUse, type Model } from '../model/scripted.ts'

type Json = Record<string, unknown>
const KEY = 'ccs_ak_dGhlIGtleSBvZiBhbiBvbGQgY2xpZW50'

describe('the snippets for clients of ccs', () => {
  let machine: Machine
  let model: Model
  let fleet: Enlisted
  let snippets: Snippet[]
  let env: Record<string, string>
  let registered: Json

  beforeAll(async () => {
    snippets = await snippetsOf('docs/compat/ccs.md')
    machine = await newMachine()
    model = await startModel()
    fleet = await enlist(machine, model)
    await fleet.online(fleet.startRunner([`--workspace=${machine.workspace}`]))
    const made = await fleet.admin('/admin/v1/tokens', { method: 'POST', body: '{"kind":"admin"}' })
    const { token } = (await made.json()) as { token: string }
    env = { HOME: machine.home, URL: fleet.url, KEY, PROJECT: machine.workspace, ADMIN_TOKEN: token }
    registered = JSON.parse(await output(snippets[0]!, env)) as Json
  })
  afterAll(async () => {
    await machine.close()
    await model.close()
  })

  const nth = (language: string, n: number) => snippets.filter((snippet) => snippet.language === language)[n - 1]!
  const headers = { authorization: `Bearer ${KEY}`, 'content-type': 'application/json' }
  const send = (method: string, path: string, body?: Json) =>
    fetch(fleet.url + path, { method, headers, ...(body === undefined ? {} : { body: JSON.stringify(body) }) })
  const call = async (method: string, path: string, body?: Json) => {
    const response = await send(method, path, body)
    return [response.status, (await response.json()) as Json] as const
  }
  const session = async () => ((await call('POST', '/api/sessions', { project_path: machine.workspace }))[1]['session'] as { id: string }).id

  it('are all run here', () => {
    expect(snippets.map(({ language }) => language)).toEqual(['sh', 'sh', 'sh', 'python', 'python', 'js', 'js', 'sh'])
  })

  it('register the key that the client has', () => {
    expect(registered).toMatchObject({ kind: 'key', subject: 'old-client' })
  })

  it('curl prints the answer', async () => {
    model.script(() => text('Hello.'))
    const answer = JSON.parse(await output(nth('sh', 2), env)) as Json
    expect(answer).toEqual({
      success: true,
      result: 'Hello.',
      duration_ms: expect.any(Number),
      cost_usd: expect.any(Number),
      session_id: expect.any(String),
      usage: expect.objectContaining({ output_tokens: expect.any(Number) }),
    })
    expect(model.main().at(-1)!.prompt).toBe('Say hello.')
  })

  it('curl waits for a task', async () => {
    model.script(() => text('Hello.'))
    expect(JSON.parse(await output(nth('sh', 3), env))).toMatchObject({ success: true, task: { status: 'completed', prompt: 'Say hello.', result: 'Hello.', priority: 8 } })
  })

  it('the standard library of Python has a conversation', async () => {
    model.script(() => text('Hello €.'))
    const lines = (await output(nth('python', 1), env)).trim().split('\n')
    expect(lines).toEqual(['Hello €.', 'Hello €.', "['user', 'assistant', 'user', 'assistant']", '4', "{'success': True}"])
    expect(model.main().at(-1)!.raw).toContain('Say hello.')
  })

  it('requests reads a turn as it comes', async () => {
    model.script(() => text('Hello €.', { chunks: 4 }))
    expect(await output(nth('python', 2), env)).toBe('True stream_\nHello €.\ndone True\n')
  })

  it('node asks several things at once', async () => {
    model.script(({ prompt }) => text(`re: ${prompt}`))
    expect(await output(nth('js', 1), env)).toBe("[ 're: One.', 're: Two.' ] 2\ntrue true\n")
  })

  it('EventSource reads a turn as it comes', async () => {
    model.script(() => text('Hello.', { chunks: 2 }))
    expect(await output(nth('js', 2), env)).toBe('Hello.\ntrue\n')
  })

  it('curl sees how the providers do', async () => {
    const [status, bindings] = (await output(nth('sh', 4), env)).split(/(?<=\})(?=\{"success")/)
    expect(JSON.parse(status!)).toEqual({ success: true, strategy: 'none', failover: false, providers: [] })
    expect(JSON.parse(bindings!)).toEqual({ success: true, bindings: {} })
  })

  it('a stream that is cut goes on with what was missed, to the byte', async () => {
    let go: () => void = () => undefined
    const pause = new Promise<void>((resolve) => (go = resolve))
    const first = '漢字 one '
    model.script((request) => {
      if (!request.raw.includes('"tool_result"')) return toolUse('Read', { file_path: machine.workspace })
      return async (exchange) => {
        await pause
        await text(`${first}two`, { chunks: [first, 'two'] })(exchange)
      }
    })
    const id = await session()
    const response = await send('POST', `/api/sessions/${id}/continue/stream`, { prompt: 'Say it.' })
    const name = response.headers.get('x-stream-id')!
    const cut = await readSse(response, (events) => events.some(({ data }) => data.includes('"tool_use"')))
    const seen = cut.events.at(-1)!.id!
    const resumed = fetch(`${fleet.url}/api/sessions/${id}/stream/resume?stream_id=${name}`, { headers: { ...headers, 'last-event-id': seen } })
    const rest = readSse(await resumed)
    go()
    const { events, bytes } = await rest
    expect(JSON.parse(events[0]!.data)).toEqual({ type: 'resumed', content: '' })
    expect(events.at(-1)!.event).toBe('done')
    const whole = await readSse(await fetch(`${fleet.url}/api/sessions/${id}/stream/resume?stream_id=${name}&after=0`, { headers }))
    const after = ({ text: all }: { text: string }, of: string) => all.slice(all.indexOf(of))
    const next = `id: ${Number(seen) + 1}\n`
    expect(after({ text: eventBytes(bytes).toString() }, next)).toBe(after({ text: eventBytes(whole.bytes).toString() }, next))
    const [, ended] = await call('GET', `/api/sessions/${id}/stream/resume?stream_id=${name}`)
    expect(ended).toMatchObject({ status: 'completed', content: `${first}two`, metadata: { success: true } })
  })

  it('a task that is cancelled leaves nothing alive', async () => {
    const marker = `sleep 7${Date.now() % 100_000}`
    model.script(() => toolUse('Bash', { command: marker, description: 'sleep' }))
    const [status, { task }] = await call('POST', '/api/tasks/async', { prompt: 'Sleep.', metadata: { allowed_tools: ['Bash'] } })
    expect(status).toBe(201)
    const { id } = task as { id: string }
    await until('the tool to run', async () => (await processesWith(marker.replace(' ', '\0'))).length > 0, 20_000)
    expect(await call('DELETE', `/api/tasks/${id}`)).toEqual([200, { success: true }])
    expect(await processesWith(marker.replace(' ', '\0'))).toEqual([])
    expect(await call('GET', `/api/tasks/${id}`)).toMatchObject([200, { task: { status: 'cancelled' } }])
  })

  it('what goes over a budget is answered as such, and is counted', async () => {
    model.script(() => text('Dear.', { usage: { input_tokens: 100_000, output_tokens: 1_000 } }))
    const before = (await call('GET', '/api/statistics/summary'))[1]['statistics'] as { costs: { total_usd: number } }
    const [status, answer] = await call('POST', '/api/messages', { prompt: 'Spend.', max_budget_usd: 0.01 })
    expect([status, answer]).toMatchObject([500, { success: false, budget_exceeded: true, max_budget_usd: 0.01, session_id: expect.any(String) }])
    const cost = Number(answer['request_cost_usd'])
    expect(cost).toBeGreaterThan(0.01)
    const after = (await call('GET', '/api/statistics/summary'))[1]['statistics'] as { costs: { total_usd: number } }
    expect(after.costs.total_usd - before.costs.total_usd).toBeCloseTo(cost, 9)
    const asked = model.main().length
    expect(await call('POST', '/api/messages', { prompt: 'More.', session_id: answer['session_id'], max_budget_usd: 0.01 })).toMatchObject([500, { current_cost_usd: cost }])
    expect(model.main().length).toBe(asked)
  })

  it('a directory that is none is said before anything runs', async () => {
    expect(await call('POST', '/api/messages', { prompt: 'x', project_path: '/nowhere' })).toMatchObject([400, { success: false }])
    expect(await call('POST', '/api/messages', { prompt: 'x', agent: 'nobody' })).toMatchObject([400, { success: false, error: expect.stringContaining('nobody') }])
  })
})
