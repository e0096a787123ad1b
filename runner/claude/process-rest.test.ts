/** What a CLI might do between its turns, and at the seam of two: a script in its place that does it. */
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { alive, Kept, Stage } from '../../test/fixtures/cli/stage.ts'
import { until } from '../../test/kit/wait.ts'
import { ClaudeProcess } from './process.ts'

const STAY = { stay: true }
/** What a turn consists of. */
const TURN = `out({ type: 'system', subtype: 'init' }); out({ type: 'answer', n })`

let stage: Stage
const started: ClaudeProcess[] = []
beforeAll(async () => {
  stage = await Stage.open()
})
afterAll(() => stage.close())
afterEach(async () => {
  for (const claude of started.splice(0)) await claude.cancel('kill')
  stage.logged.length = 0
})

/** Its body, at each prompt. */
async function fake(name: string, body: string): Promise<ClaudeProcess> {
  const claude = await ClaudeProcess.prepare(await stage.fake(name, body))
  started.push(claude)
  return claude
}

async function play(claude: ClaudeProcess, sink = new Kept()) {
  return { end: await claude.turn('hello', sink, STAY), sink }
}
const logged = (): string => stage.logged.join('\n')
const wasLogged = (text: string) => until(text, () => logged().includes(text))

describe('a process at rest', () => {
  it.each([
    ['garbage', `out('not json'); out(Buffer.from([0x7b, 0xff]).toString('latin1'))`, '"no event":2'],
    ['lines of an unknown type', `out({ type: 'secret-word' }); out({ type: 'system', subtype: 'Secret Word' })`, '"unknown":1,"system/unknown":1'],
    ['news of a task', `out({ type: 'system', subtype: 'task_updated', text: 'secret-word' })`, '"system/task_updated":1'],
  ])('that prints %s goes on, and no turn gets to see it', async (name, lines, kinds) => {
    const claude = await fake(`rest-${name.slice(0, 4)}`, `${TURN}; result(); setTimeout(() => { ${lines} }, 20)`)
    await play(claude)
    // The next prompt comes after the lines: the pipe is read in between.
    await new Promise((resolve) => setTimeout(resolve, 200))
    const { sink, end } = await play(claude)
    expect(sink.events.map(({ type }) => type)).toEqual(['system', 'answer', 'result'])
    expect(sink.marks).toEqual([])
    expect(end).toMatchObject({ code: 0, result: { is_error: false } })
    expect(logged()).toContain(kinds)
    expect(logged()).not.toMatch(/secret.word/i)
  })

  it('that tells of a turn nobody asked for has its cost taken off the next one', async () => {
    const own = `setTimeout(() => result({ origin: { kind: 'task-notification' }, total_cost_usd: n + 0.5 }), 20)`
    const claude = await fake('rest-own-result', `${TURN}; result({ total_cost_usd: n }); ${own}`)
    expect((await play(claude)).end.result?.cost_usd).toBe(1)
    await wasLogged('a turn that nobody asked for has ended {"cost_usd":0.5')
    expect(claude.isIdle).toBe(true)
    const { end, sink } = await play(claude)
    expect(end.result?.cost_usd).toBe(0.5)
    expect(sink.ofType('result')).toHaveLength(1)
  })

  it.each([
    ['begins a turn of its own', `out({ type: 'system', subtype: 'init' })`],
    ['goes on talking', `out({ type: 'assistant', message: { content: [] } })`],
    ['forges a result', `result({ is_error: true })`],
    ['prints without end', `setInterval(() => out({ type: 'x' }), 1)`],
    ['prints 20 MB', `process.stdout.write('z'.repeat(20_000_000) + '\\n')`],
    ['exits', `process.exit(3)`],
    ['closes its stdout', `require('node:fs').closeSync(1); setInterval(() => undefined, 1000)`],
  ])('that %s gets no other prompt', async (name, deed) => {
    const claude = await fake(`rest-${name.replaceAll(' ', '-')}`, `${TURN}; result(); setTimeout(() => { ${deed} }, 20)`)
    const { end, sink } = await play(claude)
    expect(end).toMatchObject({ code: 0, signal: null, result: { is_error: false } })
    expect(sink.lines).toHaveLength(3)
    await until('it to be ended', () => !claude.isIdle)
    const next = new Kept()
    expect(await claude.turn('again', next, STAY)).toMatchObject({ result: undefined })
    expect(next.lines).toEqual([])
    expect(claude.turns).toBe(1)
    await claude.gone
  })

  it('that exits has nothing left of it when it is gone', async () => {
    const launch = await stage.fake('rest-children', `spawn('sleep', ['600'], { detached: true }); result()
      setTimeout(() => process.exit(0), 300)`)
    const claude = await ClaudeProcess.prepare(launch)
    // No sign of a tool, so nobody looked for it: that is what the end is for.
    await play(claude)
    await claude.gone
    expect(await alive({ marker: launch.marker })).toEqual([])
  })

  it('lets no pause wedge it', async () => {
    const claude = await fake('rest-paused', `out({ type: 'x' }); out('z'.repeat(100_000)); result()`)
    claude.pause()
    const sink = new Kept()
    const turn = claude.turn('hello', sink, STAY)
    expect(await Promise.race([turn, new Promise((resolve) => setTimeout(resolve, 100, 'paused'))])).toBe('paused')
    claude.resume()
    await turn
    expect(claude.isIdle).toBe(true)
    claude.pause()
    await claude.cancel('interrupt')
    expect(claude.isIdle).toBe(false)
  })
})

describe('the end of a turn', () => {
  it('comes with the first result; with a second one the process does not stay', async () => {
    // In one piece: what comes after it is decided that the process stays is no longer the turn's.
    const claude = await fake('two-results', `process.stdout.cork(); ${TURN}; result(); out({ type: 'late' }); result({ is_error: true }); process.stdout.uncork()`)
    const { end, sink } = await play(claude)
    expect(end.result).toMatchObject({ seq: 3, is_error: false })
    expect(sink.events.map(({ type }) => type)).toEqual(['system', 'answer', 'result', 'late', 'result'])
    expect(claude.isIdle).toBe(false)
  })

  it('comes not with the result of another turn, whose cost is not of this one', async () => {
    const own = `result({ origin: { kind: 'x' }, is_error: true, total_cost_usd: 0.3 })`
    const claude = await fake('own-first', `${TURN}; ${own}; result({ total_cost_usd: 0.5 })`)
    const { end } = await play(claude)
    expect(end.result).toMatchObject({ seq: 4, is_error: false, cost_usd: 0.2 })
    expect(claude.isIdle).toBe(false)
  })

  it('is the end of a process that a tool may have changed', async () => {
    const uses = (name: string) => `out({ type: 'assistant', message: { content: [{ type: 'tool_use', name: '${name}' }] } })`
    for (const [name, stays] of [['Bash', true], ['EnterWorktree', false]] as const) {
      const claude = await fake(`uses-${name}`, `${TURN}; ${uses(name)}; result()`)
      await play(claude)
      expect([name, claude.isIdle]).toEqual([name, stays])
      await claude.cancel('kill')
    }
  })

  it('has the stderr of that turn, and of no other time', async () => {
    const body = `${TURN}; process.stderr.write('in turn ' + n + '\\n', () => { result(); setTimeout(() => console.error('secret-word'), 20) })`
    const claude = await fake('stderr', body)
    const text = async () => (await play(claude)).sink.marks.map((mark) => ('text' in mark ? mark.text : mark.kind))
    expect(await text()).toEqual(['in turn 1\n'])
    await new Promise((resolve) => setTimeout(resolve, 200))
    expect(await text()).toEqual(['in turn 2\n'])
    expect(logged()).not.toContain('secret-word')
  })

  it('is not the end of the process for an interrupt that comes too late for it', async () => {
    const claude = await fake('late-interrupt', `${TURN}; result({ asked: asked.filter((what) => what === 'interrupt') })`)
    for (let n = 0; n < 3; n++) {
      const sink = new Kept()
      const line = sink.line.bind(sink)
      let cancelled: Promise<void> | undefined
      sink.line = (bytes) => {
        if (Buffer.from(bytes).includes('result')) cancelled = claude.cancel('interrupt')
        return line(bytes)
      }
      const { end } = await play(claude, sink)
      await cancelled
      expect(end).toMatchObject({ code: 0, result: { is_error: false } })
      expect(sink.ofType('result')).toMatchObject([{ asked: [] }])
      expect(claude.isIdle).toBe(true)
    }
  })

  it.each(['term', 'kill'] as const)('is the end of the process for a %s that comes with it', async (mode) => {
    const claude = await fake(`late-${mode}`, `${TURN}; result()`)
    const sink = new Kept()
    const line = sink.line.bind(sink)
    let cancelled: Promise<void> | undefined
    sink.line = (bytes) => {
      if (Buffer.from(bytes).includes('result')) cancelled = claude.cancel(mode)
      return line(bytes)
    }
    const { end } = await play(claude, sink)
    expect(claude.isIdle).toBe(false)
    expect(end.result).toMatchObject({ is_error: false })
    await cancelled
    await claude.gone
  })

  it('is the end of a process that did not hear its interrupt', async () => {
    const claude = await fake('deaf', `deaf = result; ${TURN}`)
    const sink = new Kept()
    const turn = claude.turn('hello', sink, STAY)
    await sink.seen('answer')
    await claude.cancel('interrupt')
    expect((await turn).result).toMatchObject({ is_error: false })
    expect(claude.isIdle).toBe(false)
  })

  it('is forced on a process that never answers', async () => {
    const claude = await fake('mute', `deaf = () => undefined; ${TURN}`)
    const sink = new Kept()
    const turn = claude.turn('hello', sink, STAY)
    await sink.seen('answer')
    await claude.cancel('interrupt')
    expect(await turn).toEqual({ code: 0, signal: null, result: undefined })
    expect(claude.isIdle).toBe(false)
  })

  it('is awaited: there is no second turn in the midst of the first', async () => {
    const claude = await fake('busy', `${TURN}; setTimeout(result, 100)`)
    const turn = play(claude)
    await expect(play(claude)).rejects.toThrow('in the middle of a turn')
    expect((await turn).end.result).toMatchObject({ is_error: false })
    expect(claude.turns).toBe(1)
    expect(claude.isIdle).toBe(true)
  })
})
