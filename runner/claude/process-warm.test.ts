/** Several turns of one process of the real CLI. */
import { randomUUID } from 'node:crypto'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { alive, Kept, Stage, type Part } from '../../test/fixtures/cli/stage.ts'
import { error, stall, text, toolUse, type Reply } from '../../test/model/scripted.ts'
import type { Launch } from './launch.ts'
import { ClaudeProcess } from './process.ts'

const STAY = { stay: true }
const TINY = fileURLToPath(new URL('../../test/fixtures/mcp/tiny.mjs', import.meta.url))

let stage: Stage
const started: ClaudeProcess[] = []
beforeAll(async () => {
  stage = await Stage.open()
})
afterAll(() => stage.close())
beforeEach(() => stage.model.script(() => text('ok')))
afterEach(async () => {
  for (const claude of started.splice(0)) await claude.cancel('kill')
})

async function start(launch: Launch): Promise<ClaudeProcess> {
  const claude = await ClaudeProcess.prepare(launch)
  started.push(claude)
  return claude
}
const living = (part: Part = {}) => start(stage.launch(part))

async function play(claude: ClaudeProcess, prompt: string) {
  const sink = new Kept()
  const end = await claude.turn(prompt, sink, STAY)
  return { end, sink, answer: sink.ofType('result')[0]?.['result'] }
}

/** These in order, and then the last one for ever. */
function script(...replies: Reply[]): void {
  stage.model.script(() => (replies.length > 1 ? replies.shift() : replies[0]) ?? text('never'))
}
const bash = (command: string): Reply => toolUse('Bash', { command })

describe('a process that stays', () => {
  it('takes turn after turn of one conversation', async () => {
    stage.model.script((request) => text(`you said ${request.prompt}`))
    const claude = await living()
    const pid = claude.pid
    for (const [at, word] of ['plum', 'pear', 'fig'].entries()) {
      expect(claude.isIdle).toBe(true)
      expect(claude.turns).toBe(at)
      const { end, answer, sink } = await play(claude, word)
      expect(answer).toBe(`you said ${word}`)
      expect(end).toMatchObject({ code: 0, signal: null, result: { is_error: false, num_turns: 1, model: 'claude-sonnet-4-5' } })
      // Each turn has an init of its own, as that of a process for one turn has.
      expect(sink.events.map(({ type }) => type)).toEqual(['system', 'assistant', 'result'])
      expect(sink.marks).toEqual([])
    }
    expect(claude.pid).toBe(pid)
    expect(stage.model.main().at(-1)?.raw).toContain('you said pear')
  })

  it('tells of each turn what it cost itself', async () => {
    const alone = (await stage.play()).end.result?.cost_usd
    expect(alone).toBeGreaterThan(0)
    const claude = await living()
    for (const prompt of ['one', 'two', 'three']) expect((await play(claude, prompt)).end.result?.cost_usd).toBe(alone)
  })

  it('is gone after a turn that it was not to outlive, as if it were its first', async () => {
    const launch = stage.launch()
    const claude = await start(launch)
    await play(claude, 'one')
    const sink = new Kept()
    expect(await claude.turn('two', sink)).toMatchObject({ code: 0, signal: null, result: { is_error: false } })
    expect(claude.isIdle).toBe(false)
    expect(await alive({ marker: launch.marker })).toEqual([])
    await claude.gone
  })

  it('stays after a turn that failed at its provider, with the code of one', async () => {
    script(error(400, 'invalid_request_error', 'no'), text('better'))
    const claude = await living()
    expect((await play(claude, 'one')).end).toMatchObject({ code: 1, signal: null, result: { is_error: true, cost_usd: 0 } })
    expect(await play(claude, 'two')).toMatchObject({ answer: 'better', end: { code: 0, result: { is_error: false } } })
  })

  it('stays when its tools have ended', async () => {
    script(bash('echo one'), text('done'), bash('sleep 0.2; echo two'), text('done again'))
    const claude = await living({ allowed_tools: ['Bash'], include_partial_messages: true })
    const pid = claude.pid
    expect((await play(claude, 'one')).answer).toBe('done')
    expect(claude.isIdle).toBe(true)
    expect((await play(claude, 'two')).answer).toBe('done again')
    expect(claude.isIdle).toBe(true)
    expect(claude.pid).toBe(pid)
  })

  it('keeps its MCP servers, and uses them in each turn', async () => {
    const add = toolUse('mcp__tiny__add', { a: 1, b: 2 })
    script(add, text('three'), add, text('three again'))
    const servers = { tiny: { command: process.execPath, args: [TINY] } }
    const claude = await living({ mcp_config: { mcpServers: servers }, allowed_tools: ['mcp__tiny__add'] })
    const first = await play(claude, 'one')
    expect(first.answer).toBe('three')
    expect(JSON.stringify(first.sink.ofType('user'))).toContain('sum 3')
    expect(claude.isIdle).toBe(true)
    expect((await play(claude, 'two')).answer).toBe('three again')
    expect(claude.isIdle).toBe(true)
  })

  it('does not outlive a tool that left something running, which is ended with it', async () => {
    const seconds = 600 + Math.random()
    script(bash(`setsid nohup sleep ${seconds} >/dev/null 2>&1 & echo started`), text('done'))
    const launch = stage.launch({ allowed_tools: ['Bash'] })
    const claude = await start(launch)
    const { end, answer } = await play(claude, 'one')
    expect(answer).toBe('done')
    expect(end).toMatchObject({ code: 0, signal: null, result: { is_error: false } })
    expect(claude.isIdle).toBe(false)
    expect(await alive({ marker: launch.marker, text: `sleep\0${seconds}` })).toEqual([])
  })

  it('loses nothing to readers that pause, and no pause outlives its turn', async () => {
    const answer = 'x'.repeat(300_000)
    stage.model.script(() => text(answer, { chunks: 10 }))
    const claude = await living({ include_partial_messages: true })
    for (const prompt of ['one', 'two']) {
      const sink = new Kept()
      const line = sink.line.bind(sink)
      sink.line = (bytes) => {
        claude.pause()
        // The line of the result is the last one, and nobody resumes after it.
        if (!Buffer.from(bytes).includes('"type":"result"')) setTimeout(() => claude.resume(), 2)
        return line(bytes)
      }
      await claude.turn(prompt, sink, STAY)
      expect(sink.ofType('result')[0]?.['result']).toBe(answer)
      expect(claude.isIdle).toBe(true)
    }
  })
})

describe('an interrupt', () => {
  it('in the midst of an answer keeps the process and what was said', async () => {
    script(stall('half an answer'), text('second'))
    const session = randomUUID()
    const claude = await living({ include_partial_messages: true, session: { mode: 'new', id: session } })
    const pid = claude.pid
    const sink = new Kept()
    const turn = claude.turn('the word is plum', sink, STAY)
    await sink.seen('half an answer')
    await claude.cancel('interrupt')
    expect(claude.isIdle).toBe(true)
    expect(await turn).toMatchObject({ code: 1, signal: null, result: { is_error: true, error: { code: 'cancelled' } } })
    expect((await play(claude, 'go on')).answer).toBe('second')
    expect(claude.pid).toBe(pid)
    expect(stage.model.main().at(-1)?.raw).toContain('the word is plum')
    expect(stage.model.main().at(-1)?.raw).toContain('half an answer')
  })

  it('at once after the prompt keeps a process that has read it', async () => {
    const claude = await living()
    const turn = claude.turn('never mind', new Kept(), STAY)
    await claude.cancel('interrupt')
    const { result } = await turn
    // Where it came before the prompt was written there is no process left, and else no answer.
    expect(result === undefined || result.is_error).toBe(true)
    expect(claude.isIdle).toBe(result !== undefined)
    const { answer } = await play(claude, 'and now')
    expect(answer).toBe(result ? 'ok' : undefined)
  })

  it('in the midst of a tool ends both', async () => {
    const seconds = 600 + Math.random()
    stage.model.script(() => bash(`(trap '' TERM INT HUP; sleep ${seconds}1) & sleep ${seconds}2`))
    const launch = stage.launch({ allowed_tools: ['Bash'] })
    const claude = await start(launch)
    const turn = claude.turn('one', new Kept(), STAY)
    await expect.poll(() => alive({ text: `sleep\0${seconds}` }), { timeout: 20_000 }).toHaveLength(2)
    await claude.cancel('interrupt')
    expect(claude.isIdle).toBe(false)
    expect(await alive({ marker: launch.marker, text: `sleep\0${seconds}` })).toEqual([])
    expect(await turn).toMatchObject({ signal: null, result: { is_error: true, error: { code: 'cancelled' } } })
  })

  it('after a tool that has ended does not keep the process', async () => {
    script(bash('echo over'), stall('half'))
    const claude = await living({ allowed_tools: ['Bash'], include_partial_messages: true })
    const sink = new Kept()
    const turn = claude.turn('one', sink, STAY)
    await sink.seen('half')
    await claude.cancel('interrupt')
    expect(claude.isIdle).toBe(false)
    expect(await turn).toMatchObject({ result: { is_error: true } })
  })

  it.each(['term', 'kill'] as const)('that is a %s leaves no process', async (mode) => {
    script(stall('half'))
    const launch = stage.launch({ include_partial_messages: true })
    const claude = await start(launch)
    const sink = new Kept()
    const turn = claude.turn('one', sink, STAY)
    await sink.seen('half')
    await claude.cancel(mode)
    expect(await alive({ marker: launch.marker })).toEqual([])
    expect(await turn).toMatchObject({ result: undefined })
    expect(claude.isIdle).toBe(false)
    expect(existsSync(join(stage.configDir, 'sessions', `${claude.pid}.json`))).toBe(false)
  })
})

describe('a process at rest', () => {
  it('is ended by a cancel, with nothing left of it', async () => {
    const launch = stage.launch()
    const claude = await start(launch)
    await play(claude, 'one')
    await claude.cancel('interrupt')
    expect(await alive({ marker: launch.marker })).toEqual([])
    expect(claude.isIdle).toBe(false)
  })

  it.each([0, 1])('is gone when it is killed after %i turns, and takes no prompt', async (turns) => {
    const launch = stage.launch()
    const claude = await start(launch)
    for (let n = 0; n < turns; n++) await play(claude, 'one')
    const asked = stage.model.requests.length
    process.kill(claude.pid, 'SIGKILL')
    await claude.gone
    expect(claude.isIdle).toBe(false)
    expect(await alive({ marker: launch.marker })).toEqual([])
    expect(existsSync(join(stage.configDir, 'sessions', `${claude.pid}.json`))).toBe(false)
    expect(await claude.turn('two', new Kept(), STAY)).toEqual({ code: null, signal: 'SIGKILL', result: undefined })
    expect(claude.turns).toBe(turns)
    expect(stage.model.requests.length).toBe(asked)
  })
})
