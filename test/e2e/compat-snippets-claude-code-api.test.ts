/** The snippets of docs/compat/claude-code-api.md and pipes of Open WebUI: real clients, real processes, the real CLI. */
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { enlist, type Enlisted } from '../kit/enlist.ts'
import { newMachine, type Machine } from '../kit/processes.ts'
import { execute, output, PYTHON, snippetsOf, type Snippet } from '../kit/snippets.ts'
import { error, startModel, text, toolUse, type Model } from '../model/scripted.ts'

const root = join(import.meta.dirname, '../..')
const OURS = join(root, 'integrations/open-webui/runyard.py')
const STRANGERS = join(root, 'test/compat/strangers_pipe.py')
type Message = { readonly role: string; readonly content: unknown }

describe('the snippets for clients of claude-code-api', () => {
  let machine: Machine
  let model: Model
  let fleet: Enlisted
  let snippets: Snippet[]
  let env: Record<string, string>
  let token: string

  beforeAll(async () => {
    snippets = await snippetsOf('docs/compat/claude-code-api.md')
    machine = await newMachine()
    model = await startModel()
    fleet = await enlist(machine, model)
    await fleet.online(fleet.startRunner([`--workspace=${machine.workspace}`]))
    const wish = { kind: 'app', subject: 'pipe', scopes: ['runs:write', 'runs:read'] }
    const made = await fleet.admin('/admin/v1/tokens', { method: 'POST', body: JSON.stringify(wish) })
    token = ((await made.json()) as { token: string }).token
    env = { HOME: machine.home, URL: fleet.url, TOKEN: token }
  })
  afterAll(async () => {
    await machine.close()
    await model.close()
  })

  const nth = (language: string, n: number) => snippets.filter((snippet) => snippet.language === language)[n - 1]!
  const letIn = async (anonymous: object | undefined) => {
    const body = JSON.stringify({ claude_code_api: anonymous === undefined ? {} : { anonymous } })
    expect((await fleet.admin('/admin/v1/compat', { method: 'PUT', body })).status).toBe(200)
  }
  /** The pieces that a pipe says. */
  async function pipe(file: string, valves: object, body: object, more: object = {}): Promise<string[]> {
    const said = [valves, body, more].map((value) => JSON.stringify(value))
    const printed = await execute(PYTHON, [join(root, 'test/compat/run_pipe.py'), file, ...said], { HOME: machine.home })
    return printed.trim().split('\n').map((line) => JSON.parse(line) as string)
  }
  const ours = (messages: readonly Message[], valves: object = {}, body: object = {}, more: object = {}) =>
    pipe(OURS, { RUNYARD_URL: `${fleet.url}/`, RUNYARD_TOKEN: token, ...valves }, { messages, ...body }, more)
  const user = (content: unknown): Message => ({ role: 'user', content })
  const assistant = (content: string): Message => ({ role: 'assistant', content })

  it('are all run here, but what lets people in', () => {
    expect(snippets.map(({ language }) => language)).toEqual(['sh', 'python', 'js', 'sh', 'toml'])
  })

  it('curl prints the lines of the CLI, unnamed and without a last word', async () => {
    model.script(() => text('Hello.'))
    const lines = (await output(nth('sh', 1), env)).split('\n')
    expect(lines.filter((line) => line.startsWith('event:'))).toEqual([])
    const types = lines.filter((line) => line.startsWith('data: ')).map((line) => (JSON.parse(line.slice(6)) as { type: string }).type)
    expect(types[0]).toBe('system')
    expect(types.at(-1)).toBe('result')
  })

  it('the standard library of Python goes on with a session, and hears that another one is not there', async () => {
    model.script(() => text('Hello €.'))
    expect(await output(nth('python', 1), env)).toBe("Hello €.\n[True]\n[{'type': 'error', 'error': 'Session not found'}]\n")
    expect(model.main().at(-1)!.raw).toContain('Say hello.')
  })

  it('node reads the answer', async () => {
    model.script(() => text('Hello.'))
    expect(await output(nth('js', 1), env)).toBe('Hello.\n')
    expect(model.main().at(-1)!.raw).not.toContain('"name":"Bash"')
  })

  it('our pipe keeps the session of a chat in the chat', async () => {
    model.script(() => text('I will remember “marmalade”\u2028.'))
    const first = await ours([user('Remember the word marmalade.')])
    expect(first[0]).toMatch(/^session_id=[0-9a-f-]{36}\n\n$/)
    expect(first.slice(1).join('')).toContain('I will remember “marmalade”\u2028.')
    model.script(() => text('marmalade'))
    const again = await ours([
      user('Remember the word marmalade.'),
      assistant(first.join('')),
      user([{ type: 'text', text: 'Which word?' }, { type: 'image_url', image_url: { url: 'data:,' } }]),
    ])
    expect(again.join('')).toBe('marmalade\n')
    const { prompt, raw } = model.main().at(-1)!
    expect([prompt, raw.includes('Remember the word marmalade.')]).toEqual(['Which word?', true])
  })

  it('our pipe answers at once where it is asked to, passes a system prompt on, and leaves tasks out of the chat', async () => {
    model.script(() => text('Short.'))
    expect(await ours([{ role: 'system', content: 'Be brief.' }, user('Hello')], {}, { stream: false })).toHaveLength(1)
    expect(model.main().at(-1)!.raw).toContain('Be brief.')
    const chat = [user('Hello'), assistant(`session_id=${crypto.randomUUID()}`), user('A title, please.')]
    expect(await ours(chat, {}, {}, { __task__: 'title_generation' })).toEqual(['Short.\n'])
  })

  it('our pipe says which tools are used, and what went wrong', async () => {
    model.script((request) => (request.raw.includes('"tool_result"') ? text('There is nothing.') : toolUse('Read', { file_path: join(machine.workspace, 'nothing') })))
    const told = (await ours([user('Look.')], { ALLOWED_TOOLS: 'Read, Bash(git log:*)' })).join('')
    expect(told).toContain('`Read`')
    expect(told).toContain('There is nothing.')
    model.script(() => error(400, 'invalid_request_error', 'no'))
    expect((await ours([user('Hello')])).join('')).toMatch(/\*\*Error:\*\* .*no/)
    expect((await ours([user('x'), assistant(`session_id=${crypto.randomUUID()}`), user('y')])).join('')).toContain('**Error:** Session not found')
    expect(await ours([user('Hello')], { SKIP_PERMISSIONS: true })).toEqual([expect.stringContaining('needs the scope runs:bypass')])
    expect(await ours([user('Hello')], { RUNYARD_TOKEN: 'wrong' })).toEqual(['**Error:** Invalid authentication credentials'])
    expect(await ours([user('Hello')], { RUNYARD_URL: 'http://127.0.0.1:9' })).toEqual([expect.stringContaining('cannot be reached')])
  })

  it("a stranger's pipe, which knows no tokens, works where an operator lets nobody in particular in", async () => {
    const strangers = (messages: readonly Message[]) => pipe(STRANGERS, { API_URL: fleet.url }, { messages })
    await letIn({ tenant: 'default', narrowing: { models: ['haiku'] }, allowed_tools: ['Read', 'Edit'] })
    try {
      model.script(() => text('Hello.'))
      const first = await strangers([user('Say hello.')])
      expect(first).toEqual([expect.stringMatching(/^session_id=[0-9a-f-]{36}\n$/), 'Hello.', '\n[success]'])
      const again = await strangers([user('Say hello.'), assistant(first.join('')), user('Again.')])
      expect(again[0]).toBe(first[0])
      expect(model.main().at(-1)!.raw).toContain('Say hello.')
      expect(await strangers([assistant(`session_id=${crypto.randomUUID()}`), user('x')])).toEqual(['Error: Session not found'])
    } finally {
      await letIn(undefined)
    }
  })

  it('leave nothing compiled beside what is shipped', () => {
    expect([OURS, STRANGERS].filter((file) => existsSync(join(dirname(file), '__pycache__')))).toEqual([])
  })
})
