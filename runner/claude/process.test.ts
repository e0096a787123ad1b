import { randomUUID } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { Fault } from '../../shared/faults.ts'
import { alive, Kept, Stage, type Part, type Played } from '../../test/fixtures/cli/stage.ts'
import { error, hang, stall, text, toolUse, type Script } from '../../test/model/scripted.ts'
import { ClaudeProcess } from './process.ts'

let stage: Stage
beforeAll(async () => {
  stage = await Stage.open()
})
afterAll(() => stage.close())
beforeEach(() => stage.model.script(() => text('ok')))

/** One tool call, then `done`. */
const once = (name: string, input: Record<string, unknown>): Script => {
  let called = false
  return () => {
    if (called) return text('done')
    called = true
    return toolUse(name, input)
  }
}
const answerOf = ({ sink }: Played): unknown => sink.ofType('result')[0]?.['result']
const lastPrompt = (): string | undefined => stage.model.main().at(-1)?.prompt
const systemText = (): string => JSON.stringify(stage.model.main().at(-1)?.body?.['system'])

async function refusal(part: Part, extra: Parameters<Stage['launch']>[1] = {}): Promise<Fault> {
  const launch = stage.launch(part, extra)
  const outcome = await ClaudeProcess.prepare(launch).catch((reason: unknown) => reason)
  expect(await alive({ marker: launch.marker })).toEqual([])
  if (!(outcome instanceof Fault)) throw new Error('it was not refused')
  return outcome
}

describe('a turn', () => {
  it('gives the CLI the prompt, passes its lines on, and reports the result', async () => {
    const session = randomUUID()
    const played = await stage.play({ prompt: 'say ok', session: { mode: 'new', id: session } })
    expect(lastPrompt()).toBe('say ok')
    expect(answerOf(played)).toBe('ok')
    const { end, sink } = played
    expect(end).toMatchObject({ code: 0, signal: null, result: { is_error: false, num_turns: 1, usage: { output_tokens: 34 } } })
    expect(sink.lines[(end.result?.seq ?? 0) - 1]).toContain('"type":"result"')
    expect(sink.events.every((event) => event['session_id'] === session)).toBe(true)
    expect(sink.lines.some((line) => line.includes('control_response'))).toBe(false)
    expect(sink.marks).toEqual([])
  })

  it('tells the version of the CLI before the turn', async () => {
    const claude = await ClaudeProcess.prepare(stage.launch())
    expect(claude.cliVersion).toMatch(/^\d+\.\d+\.\d+$/)
    await claude.cancel('interrupt')
  })

  it('streams partial messages only when it is asked to', async () => {
    stage.model.script(() => text('one two three', { chunks: 3 }))
    expect((await stage.play()).sink.ofType('stream_event')).toEqual([])
    const { sink } = await stage.play({ include_partial_messages: true })
    expect(sink.ofType('stream_event').length).toBeGreaterThan(4)
  })

  it('lets a tool of the allowed ones work, and names what it denied', async () => {
    const path = join(stage.cwd, 'made.txt')
    stage.model.script(once('Write', { file_path: path, content: 'by a tool' }))
    const denied = await stage.play()
    expect(existsSync(path)).toBe(false)
    expect(denied.sink.ofType('result')[0]?.['permission_denials']).toHaveLength(1)
    stage.model.script(once('Write', { file_path: path, content: 'by a tool' }))
    expect(answerOf(await stage.play({ permission_mode: 'acceptEdits' }))).toBe('done')
    expect(await readFile(path, 'utf8')).toBe('by a tool')
  })

  it('keeps a permission rule one rule, whatever is in its brackets', async () => {
    const path = join(stage.cwd, 'not-made.txt')
    stage.model.script(once('Write', { file_path: path, content: 'x' }))
    await stage.play({ allowed_tools: [`Read(a) Write(/${path})`, 'Read(b) Write()'] })
    expect(existsSync(path)).toBe(false)
  })

  it('keeps the temporary files of the CLI in the folder of the run, and those of tools where they belong', async () => {
    const launch = stage.launch({ allowed_tools: ['Bash'] })
    stage.model.script(once('Bash', { command: 'echo "temporary: ${TMPDIR-none}"' }))
    const sink = new Kept()
    await (await ClaudeProcess.prepare(launch)).turn('hello', sink)
    expect(sink.lines.join('\n')).toContain('temporary: none')
    expect(existsSync(join(launch.privateDir, `claude-${process.getuid?.()}`))).toBe(true)
  })

  it('takes a disallowed tool away', async () => {
    await stage.play({ disallowed_tools: ['Write'] })
    expect(stage.model.main().at(-1)?.raw).not.toContain('"name":"Write"')
  })

  it('passes on a 2 MB answer byte for byte', async () => {
    const answer = 'The quick brown fox, "quoted" \\ and so on.\n'.repeat(50_000)
    stage.model.script(() => text(answer))
    const played = await stage.play()
    expect(answerOf(played)).toBe(answer)
    expect(JSON.stringify(played.sink.ofType('assistant')[0]?.['message'])).toContain(JSON.stringify(answer))
  })

  it('keeps characters whole that the API cut between packets', async () => {
    const answer = '日本語 € ß 🎈 \u2028 end '.repeat(200)
    stage.model.script(() => text(answer, { chunks: 50, cutUtf8: true }))
    expect(answerOf(await stage.play({ prompt: answer, include_partial_messages: true }))).toBe(answer)
    expect(lastPrompt()).toBe(answer)
  })

  it('loses nothing to a reader that pauses', async () => {
    const answer = 'x'.repeat(1_500_000)
    stage.model.script(() => text(answer, { chunks: 30 }))
    const claude = await ClaudeProcess.prepare(stage.launch({ include_partial_messages: true }))
    const sink = new Kept()
    const line = sink.line.bind(sink)
    sink.line = (bytes) => {
      claude.pause()
      setTimeout(() => claude.resume(), 5)
      return line(bytes)
    }
    const end = await claude.turn('hello', sink)
    expect(answerOf({ end, sink })).toBe(answer)
  })

  it('ends with the code of what went wrong at the provider', async () => {
    stage.model.script(() => error(400, 'invalid_request_error', 'that is not a message'))
    const { end } = await stage.play()
    expect(end).toMatchObject({ code: 1, result: { is_error: true, error: { code: 'invalid_request' } } })
  })

  it('ends without a result when the CLI is killed from outside', async () => {
    stage.model.script(() => stall())
    const claude = await ClaudeProcess.prepare(stage.launch({ include_partial_messages: true }))
    const sink = new Kept()
    const turn = claude.turn('hello', sink)
    await sink.seen('so far')
    process.kill(claude.pid, 'SIGKILL')
    expect(await turn).toEqual({ code: null, signal: 'SIGKILL', result: undefined })
  })
})

describe('sessions', () => {
  it('resumes a conversation and forks one', async () => {
    const [first, second] = [randomUUID(), randomUUID()]
    await stage.play({ prompt: 'the word is plum', session: { mode: 'new', id: first } })
    const resumed = await stage.play({ prompt: 'and now', session: { mode: 'resume', id: first } })
    expect(stage.model.main().at(-1)?.raw).toContain('the word is plum')
    expect(resumed.sink.ofType('result')[0]?.['session_id']).toBe(first)
    const forked = await stage.play({ prompt: 'another way', session: { mode: 'fork', id: second, from: first } })
    expect(stage.model.main().at(-1)?.raw).toContain('and now')
    expect(forked.sink.ofType('result')[0]?.['session_id']).toBe(second)
  })

  it('refuses an unknown session, also to fork', async () => {
    const id = randomUUID()
    expect(await refusal({ session: { mode: 'resume', id } })).toMatchObject({ code: 'session_not_found' })
    expect(await refusal({ session: { mode: 'fork', id: randomUUID(), from: id } })).toMatchObject({ code: 'session_not_found' })
  })

  it('refuses the session of another folder', async () => {
    const id = randomUUID()
    await stage.play({ session: { mode: 'new', id } })
    const cwd = join(stage.root, 'elsewhere')
    await mkdir(cwd)
    expect(await refusal({ session: { mode: 'resume', id } }, { cwd })).toMatchObject({ code: 'session_not_found' })
  })

  it('refuses a new session under an id that is in use', async () => {
    const id = randomUUID()
    await stage.play({ session: { mode: 'new', id } })
    expect(await refusal({ session: { mode: 'new', id } })).toMatchObject({ code: 'invalid_request' })
  })
})

describe('what the spec says', () => {
  it('reaches the model by initialize, not by argv', async () => {
    const secret = 'a long and private prompt of the system'
    const launch = stage.launch({ system_prompt: secret, append_system_prompt: 'and this after it' })
    const claude = await ClaudeProcess.prepare(launch)
    expect((await alive({ marker: launch.marker })).join('\n')).not.toContain(secret)
    await claude.turn('hello', new Kept())
    expect(systemText()).toContain(secret)
    expect(systemText()).toContain('and this after it')
  })

  it('takes an agent of the spec and one of the config dir', async () => {
    await stage.play({ agent: 'mine', agents: { mine: { description: 'd', prompt: 'PROMPT-OF-MINE' } } })
    expect(systemText()).toContain('PROMPT-OF-MINE')
    await mkdir(join(stage.configDir, 'agents'), { recursive: true })
    await writeFile(join(stage.configDir, 'agents', 'filed.md'), '---\nname: filed\ndescription: d\n---\nPROMPT-OF-FILED')
    await stage.play({ agent: 'filed' })
    expect(systemText()).toContain('PROMPT-OF-FILED')
  })

  it('is refused for an unknown agent and for agents that the CLI would drop', async () => {
    expect(await refusal({ agent: 'nosuch' })).toMatchObject({ code: 'agent_not_found' })
    const agents = { good: { description: 'd', prompt: 'p' }, bad: { nope: 1 } }
    expect(await refusal({ agents })).toMatchObject({ code: 'invalid_request' })
  })

  it('is refused for an MCP configuration that is none', async () => {
    expect(await refusal({ mcp_config: { foo: 1 } })).toMatchObject({ code: 'invalid_request' })
  })

  it.runIf(process.getuid?.() === 0)('is refused for a bypass as root', async () => {
    expect(await refusal({ permission_mode: 'bypassPermissions' })).toMatchObject({ code: 'policy' })
  })

  it('gives a structured answer by the JSON schema', async () => {
    stage.model.script(once('StructuredOutput', { colour: 'blue' }))
    const schema = { type: 'object', properties: { colour: { type: 'string' } }, required: ['colour'] }
    const { sink } = await stage.play({ json_schema: schema })
    expect(sink.ofType('result')[0]?.['structured_output']).toEqual({ colour: 'blue' })
  })

  it('writes its files for the owner only', async () => {
    await stage.play({ mcp_config: { mcpServers: {} } })
    const modes = ['settings.json', 'mcp.json'].map(async (name) => (await stat(join(stage.root, 'private', name))).mode & 0o777)
    expect(await Promise.all(modes)).toEqual([0o600, 0o600])
  })
})

describe('a start that fails', () => {
  it('is a fault of the CLI when there is none, and of the folder when that is gone', async () => {
    const missing = { ...stage.launch(), claude: join(stage.root, 'no-claude') }
    await expect(ClaudeProcess.prepare(missing)).rejects.toMatchObject({ code: 'cli' })
    const lost = stage.launch({}, { cwd: join(stage.root, 'gone') })
    await expect(ClaudeProcess.prepare(lost)).rejects.toMatchObject({ code: 'cwd' })
  })

  it('ends the process when it is aborted', async () => {
    const launch = stage.launch()
    const stop = new AbortController()
    const prepared = ClaudeProcess.prepare(launch, stop.signal)
    stop.abort(new Fault('start_by', 'the offer was withdrawn'))
    await expect(prepared).rejects.toMatchObject({ code: 'start_by' })
    expect(await alive({ marker: launch.marker })).toEqual([])
  })
})

describe('cancel', () => {
  it('throws a prepared process away', async () => {
    const launch = stage.launch()
    const claude = await ClaudeProcess.prepare(launch)
    await claude.cancel('interrupt')
    expect(await alive({ marker: launch.marker })).toEqual([])
    const asked = stage.model.requests.length
    expect(await claude.turn('hello', new Kept())).toMatchObject({ result: undefined })
    expect(stage.model.requests.length).toBe(asked)
  })

  it('interrupts an answer and keeps what was said of it', async () => {
    stage.model.script(() => stall('half an answer'))
    const claude = await ClaudeProcess.prepare(stage.launch({ include_partial_messages: true }))
    const sink = new Kept()
    const turn = claude.turn('hello', sink)
    await sink.seen('half an answer')
    await claude.cancel('interrupt')
    expect(await turn).toMatchObject({ signal: null, result: { is_error: true, error: { code: 'cancelled' } } })
    expect(sink.ofType('assistant')).toHaveLength(1)
  })

  it.each([
    // Only an interrupt lets the CLI say how its turn ended. It exits by itself at SIGTERM, with 128 + 15.
    { mode: 'interrupt', end: { signal: null, result: { is_error: true, error: { code: 'cancelled' } } } },
    { mode: 'term', end: { code: 143, signal: null, result: undefined } },
    { mode: 'kill', end: { signal: 'SIGKILL', result: undefined } },
  ] as const)('by $mode leaves nothing of a running tool', async ({ mode, end }) => {
    const seconds = 600 + Math.random()
    // One in a session of its own, one deaf to SIGTERM, and two without the marker: behind and in place of the shell.
    const command = [
      `setsid nohup sleep ${seconds}1 >/dev/null 2>&1 &`,
      `(trap '' TERM INT HUP; sleep ${seconds}2) &`,
      `env -i PATH="$PATH" sleep ${seconds}3 &`,
      `exec env -i PATH="$PATH" sleep ${seconds}4`,
    ].join('\n')
    stage.model.script(once('Bash', { command, timeout: 600_000 }))
    const launch = stage.launch({ allowed_tools: ['Bash'] })
    const claude = await ClaudeProcess.prepare(launch)
    const turn = claude.turn('hello', new Kept())
    await expect.poll(() => alive({ text: `sleep\0${seconds}` }), { timeout: 20_000 }).toHaveLength(4)
    const startedAt = performance.now()
    await Promise.all([claude.cancel(mode), claude.cancel(mode)])
    expect(await alive({ marker: launch.marker, text: `sleep\0${seconds}` })).toEqual([])
    expect(performance.now() - startedAt).toBeLessThan(8_000)
    expect(await turn).toMatchObject(end)
    expect(existsSync(join(stage.configDir, 'sessions', `${claude.pid}.json`))).toBe(false)
  })

  it('ends a paused process', async () => {
    stage.model.script(() => text('y'.repeat(1_000_000), { chunks: 100 }))
    const launch = stage.launch({ include_partial_messages: true })
    const claude = await ClaudeProcess.prepare(launch)
    const sink = new Kept()
    const turn = claude.turn('hello', sink)
    await sink.seen('stream_event')
    claude.pause()
    await claude.cancel('term')
    await turn
    expect(await alive({ marker: launch.marker })).toEqual([])
  })

  it('hurries from a gentle rung to the last', async () => {
    stage.model.script(() => hang())
    const launch = stage.launch()
    const claude = await ClaudeProcess.prepare(launch)
    const turn = claude.turn('hello', new Kept())
    await stage.model.waitFor((request) => request.kind === 'main')
    // It cannot answer an interrupt.
    process.kill(claude.pid, 'SIGSTOP')
    const startedAt = performance.now()
    const gentle = claude.cancel('interrupt')
    await claude.cancel('kill')
    await gentle
    expect(await turn).toMatchObject({ signal: 'SIGKILL' })
    expect(performance.now() - startedAt).toBeLessThan(1_500)
  })
})

describe('a turn that ended well', () => {
  it('leaves no background process of a tool behind', async () => {
    const seconds = 600 + Math.random()
    const command = `setsid nohup sleep ${seconds} >/dev/null 2>&1 & echo started`
    stage.model.script(once('Bash', { command }))
    const { end } = await stage.play({ allowed_tools: ['Bash'] })
    expect(end).toMatchObject({ code: 0, result: { is_error: false } })
    expect(await alive({ text: `sleep\0${seconds}` })).toEqual([])
  })
})
