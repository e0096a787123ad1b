/** The snippets of docs/compat/claude-code-server.md, as they stand there: real clients, real processes, the real CLI. */
import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { enlist, type Enlisted } from '../kit/enlist.ts'
import { newMachine, type Machine } from '../kit/processes.ts'
import { startModel, text, toolUse, type Model } from '../model/scripted.ts'

type Json = Record<string, unknown>
const DOC = join(import.meta.dirname, '../../docs/compat/claude-code-server.md')
const run = promisify(execFile)

describe('the snippets for clients of claude-code-server', () => {
  let machine: Machine
  let model: Model
  let fleet: Enlisted
  let key: string
  let snippets: { language: string; code: string }[]

  beforeAll(async () => {
    const doc = await readFile(DOC, 'utf8')
    snippets = [...doc.matchAll(/^```(\w+)\n([\s\S]*?)^```$/gm)].map(([, language, code]) => ({ language: language!, code: code! }))
    machine = await newMachine()
    model = await startModel()
    fleet = await enlist(machine, model)
    await fleet.online(fleet.startRunner([`--workspace=${machine.workspace}`]))
    const scopes = ['runs:write', 'config:read', 'config:write']
    const made = await fleet.admin('/admin/v1/tokens', { method: 'POST', body: JSON.stringify({ kind: 'app', subject: 'old-client', scopes }) })
    key = ((await made.json()) as { token: string }).token
  })
  afterAll(async () => {
    await machine.close()
    await model.close()
  })

  const COMMANDS: Record<string, readonly [string, ...string[]]> = { sh: ['sh', '-e', '-c'], python: ['python3', '-c'], js: [process.execPath, '--input-type=module', '-e'] }
  /** The output of the `n`th snippet of a language, counted from 1. */
  async function output(language: string, n: number): Promise<string> {
    const [command, ...args] = COMMANDS[language]!
    const { code } = snippets.filter((snippet) => snippet.language === language)[n - 1]!
    const env = { PATH: process.env['PATH'] ?? '/usr/bin:/bin', HOME: machine.home, URL: fleet.url, KEY: key }
    const { stdout } = await run(command, [...args, code], { env, timeout: 25_000 })
    return stdout
  }
  const ask = async (body: object): Promise<[number, Json]> => {
    const response = await fleet.call('/ask', { method: 'POST', body: JSON.stringify(body) })
    return [response.status, (await response.json()) as Json]
  }

  it('are all run here', () => {
    expect(snippets.map(({ language }) => language)).toEqual(['sh', 'sh', 'python', 'js', 'sh'])
  })

  it('curl prints the result of the CLI', async () => {
    model.script(() => text('Hello.'))
    expect(JSON.parse(await output('sh', 1))).toMatchObject({
      type: 'result',
      subtype: 'success',
      is_error: false,
      result: 'Hello.',
      num_turns: 1,
      session_id: expect.any(String),
      total_cost_usd: expect.any(Number),
      usage: expect.any(Object),
    })
    expect(model.main().at(-1)!.prompt).toBe('Say hello.')
  })

  it('curl prints the lines as they come', async () => {
    model.script(() => text('Hello.'))
    const lines = (await output('sh', 2)).split('\n')
    const data = lines.filter((line) => line.startsWith('data: ')).map((line) => JSON.parse(line.slice(6)) as Json)
    expect(data.map(({ type }) => type)).toEqual(expect.arrayContaining(['system', 'assistant', 'result']))
    expect(lines.filter((line) => line.startsWith('event: '))).toEqual(['event: done'])
    expect(data.at(-1)).toEqual({ code: 0 })
  })

  it('requests reads the stream', async () => {
    model.script(() => text('Hello €.'))
    expect(await output('python', 1)).toBe('Hello €.\nexit 0\n')
  })

  it('node goes on with a session', async () => {
    model.script(() => text('Hello.'))
    expect(await output('js', 1)).toBe('Hello.\ntrue\n')
    expect(model.main().at(-1)!.raw).toContain('Say hello.')
  })

  it('an agent that was kept a moment ago answers', async () => {
    model.script(() => text('Good day.'))
    const [made, list, answer, removed] = (await output('sh', 3)).trim().split(/(?<=\})\s*(?=[{\d])/)
    expect(JSON.parse(made!)).toEqual({ name: 'greeter' })
    expect(JSON.parse(list!)).toMatchObject({ items: [{ name: 'greeter', description: 'Greets' }], total: 1 })
    expect(JSON.parse(answer!)).toMatchObject({ type: 'result', result: 'Good day.' })
    expect(model.main().at(-1)!.raw).toContain('You greet.')
    expect(removed).toBe('204')
  })

  it('the turns that are used up are said once, by the CLI itself', async () => {
    model.script(() => toolUse('Read', { file_path: join(machine.workspace, 'nothing') }))
    const [status, result] = await ask({ prompt: 'Go on.', maxTurns: 1 })
    expect([status, result['type'], result['subtype']]).toEqual([200, 'result', 'error_max_turns'])
  })

  it('a schema is kept to', async () => {
    model.script((request) => (request.raw.includes('"tool_result"') ? text('done') : toolUse('StructuredOutput', { n: 7 })))
    const schema = { type: 'object', properties: { n: { type: 'integer' } }, required: ['n'] }
    const [status, result] = await ask({ prompt: 'A number.', jsonSchema: schema })
    expect([status, result['structured_output']]).toEqual([200, { n: 7 }])
  })

  it.each([
    ['a folder that is not there', { cwd: 'nowhere' }, 400, 'INVALID_CWD', 'cwd must be within the workspace directory'],
    ['an agent that nobody defined', { agent: 'nobody' }, 400, 'AGENT_NOT_FOUND', "Agent 'nobody' not found"],
    ['an agent that nobody defined, in a stream', { agent: 'nobody', stream: true }, 400, 'AGENT_NOT_FOUND', "Agent 'nobody' not found"],
  ])('refuses %s', async (_what, more, status, code, message) => {
    expect(await ask({ prompt: 'x', ...more })).toEqual([status, { error: { code, message, requestId: expect.any(String) } }])
  })
})
