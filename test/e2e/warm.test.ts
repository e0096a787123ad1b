/** Processes that outlive their turn, and spares, with the real CLI: what a caller sees of them, and what is left of them. */
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { enlist, type Enlisted } from '../kit/enlist.ts'
import { CLAUDE, newMachine, processesWith, type Command, type Machine } from '../kit/processes.ts'
import { readSse, type Stream } from '../kit/sse.ts'
import { until } from '../kit/wait.ts'
import { stall, startModel, text, toolUse, type Model } from '../model/scripted.ts'

type Json = Record<string, unknown>
type Turn = { readonly id: string; readonly session: string; readonly warm: boolean; readonly done: Json; readonly cliSession: string; readonly stream: Stream }

describe('a warm process', () => {
  let machine: Machine
  let model: Model
  let fleet: Enlisted
  let runner: Command
  const state = () => join(fleet.runnerDir, 'runner')

  const startRunner = async (policy: string) => {
    await writeFile(fleet.policyFile, `${policy}\n`)
    // Without a PID namespace, so that its processes can be told apart by what is in /proc.
    runner = fleet.startRunner([`--workspace=${machine.workspace}`, '--sandbox=none'])
    await fleet.online(runner)
  }
  beforeAll(async () => {
    machine = await newMachine()
    model = await startModel()
    fleet = await enlist(machine, model)
    await startRunner('spares = 0')
  })
  afterAll(async () => {
    await machine.close()
    await model.close()
  })

  async function turn(body: Json): Promise<Turn> {
    const stream = await readSse(await fleet.start({ model: 'claude-sonnet-4-5', ...body }))
    const told = stream.events.map(({ event, data }) => ({ event, data: JSON.parse(data) as Json }))
    const done = told.at(-1)!.data
    const lines = told.filter(({ event }) => event === 'message').map(({ data }) => data)
    const started = told.find(({ event }) => event === 'started')!.data
    const cliSession = String(lines.find(({ type }) => type === 'result')?.['session_id'])
    return { id: String(done['id']), session: String(done['session_id']), warm: started['warm'] === true, done, cliSession, stream }
  }
  const living = async () => (await processesWith(`CLAUDE_CONFIG_DIR=${state()}`)).map((line) => Number.parseInt(line, 10)).toSorted((a, b) => a - b)
  const status = async () => {
    const { stdout } = await machine.runyard(['runner', 'status', '--json', `--data-dir=${fleet.runnerDir}`, `--claude=${CLAUDE}`])
    return (JSON.parse(stdout) as { warm: Record<string, number> }).warm
  }

  it('takes the next turn of its session, which costs what it costs and knows what was said', async () => {
    model.script(() => text('I will remember.'))
    const first = await turn({ prompt: 'Remember the word marmalade.' })
    expect([first.done['status'], first.warm]).toEqual(['succeeded', false])
    const before = await living()
    expect(before).toHaveLength(1)
    const second = await turn({ prompt: 'Which word?', session_id: first.session })
    const third = await turn({ prompt: 'Again?', session_id: first.session })
    expect([second.warm, third.warm, second.session]).toEqual([true, true, first.session])
    expect(model.main().at(-1)!.raw).toContain('Remember the word marmalade.')
    expect(await living()).toEqual(before)
    // The CLI counts up over all of its turns; ours are those of each.
    for (const { done } of [second, third]) expect(done['cost_usd']).toBeCloseTo(first.done['cost_usd'] as number, 9)
    expect(await status()).toMatchObject({ processes: 1, memory_bytes: expect.any(Number) })
  })

  it('is not that of a turn that asks for something else', async () => {
    model.script(() => text('yes'))
    const first = await turn({ prompt: 'one' })
    const pids = await living()
    const other = await turn({ prompt: 'two', session_id: first.session, permission_mode: 'plan' })
    expect([other.done['status'], other.warm]).toEqual(['succeeded', false])
    expect((await living()).filter((pid) => !pids.includes(pid))).toHaveLength(1)
    const back = await turn({ prompt: 'three', session_id: first.session, permission_mode: 'plan' })
    expect(back.warm).toBe(true)
    expect(model.main().at(-1)!.raw).toContain('two')
  })

  it('that dies while it waits is replaced, and nobody sees it', async () => {
    model.script(() => text('yes'))
    const first = await turn({ prompt: 'the word is plum' })
    // All of them: the session may have begun in a spare that was there before.
    const waiting = await living()
    expect(waiting.length).toBeGreaterThan(0)
    // The CLI writes its transcript after its result, and without it no other one can go on.
    await until('the transcript to be on disk', async () => {
      const names = await readdir(state(), { recursive: true })
      const name = names.find((one) => one.endsWith(`${first.session}.jsonl`))
      return name !== undefined && (await readFile(join(state(), name), 'utf8')).includes('"yes"')
    })
    for (const pid of waiting) process.kill(pid, 'SIGKILL')
    const second = await turn({ prompt: 'which word', session_id: first.session })
    expect([second.done['status'], second.done['error']]).toEqual(['succeeded', undefined])
    expect(model.main().at(-1)!.raw).toContain('the word is plum')
    const warm = await turn({ prompt: 'and now', session_id: first.session })
    expect(warm.warm).toBe(true)
  })

  it('stays when an answer is interrupted, and goes when a tool is', async () => {
    const cancelled = async (body: Json, until_: () => Promise<unknown>) => {
      const response = await fleet.start({ model: 'claude-sonnet-4-5', include_partial_messages: true, allowed_tools: ['Bash'], ...body })
      const reading = readSse(response)
      await until_()
      expect((await fleet.call(`/v1/runs/${response.headers.get('x-run-id')}/cancel`, { method: 'POST' })).status).toBe(202)
      expect(JSON.parse((await reading).events.at(-1)!.data)).toMatchObject({ status: 'cancelled' })
    }
    const like = { include_partial_messages: true, allowed_tools: ['Bash'] }
    model.script(() => text('yes'))
    const { session } = await turn({ prompt: 'one', ...like })
    model.script(() => stall('so far'))
    const asked = model.main().length
    await cancelled({ prompt: 'two', session_id: session }, () => until('the model to be asked', () => model.main().length > asked))
    model.script(() => text('yes'))
    expect((await turn({ prompt: 'three', session_id: session, ...like })).warm).toBe(true)
    const seconds = `7${Date.now() % 100_000}`
    model.script(() => toolUse('Bash', { command: `sleep ${seconds}`, description: 'sleep' }))
    await cancelled({ prompt: 'four', session_id: session }, () => until('the tool to run', async () => (await processesWith(`sleep\0${seconds}`)).length > 0))
    expect(await processesWith(`sleep\0${seconds}`)).toEqual([])
    model.script(() => text('yes'))
    const after = await turn({ prompt: 'five', session_id: session, ...like })
    expect([after.warm, after.done['status']]).toEqual([false, 'succeeded'])
  })

  it('does not stay with a process that a tool has left behind', async () => {
    const seconds = `8${Date.now() % 100_000}`
    const leave = toolUse('Bash', { command: `setsid nohup sleep ${seconds} >/dev/null 2>&1 &`, description: 'leave' })
    model.script((request) => (request.raw.includes('"tool_result"') ? text('done') : leave))
    const { session, done } = await turn({ prompt: 'leave something', allowed_tools: ['Bash'] })
    expect([done['status'], await processesWith(`sleep\0${seconds}`)]).toEqual(['succeeded', []])
    model.script(() => text('yes'))
    expect((await turn({ prompt: 'and now', session_id: session, allowed_tools: ['Bash'] })).warm).toBe(false)
  })

  it('may have been there before its session, which then has two names', async () => {
    await runner.stop()
    await startRunner('spares = 2')
    model.script(() => text('yes'))
    const like = { append_system_prompt: 'Be brief.' }
    for (const prompt of ['one', 'two']) expect((await turn({ prompt, ...like })).warm).toBe(false)
    await until('a spare', async () => (await status())['spares'] === 1)
    const opened = await turn({ prompt: 'the word is quince', ...like })
    expect([opened.warm, opened.done['status']]).toEqual([true, 'succeeded'])
    expect(opened.cliSession).not.toBe(opened.session)
    for (const name of [opened.session, opened.cliSession]) {
      const next = await turn({ prompt: 'which word', session_id: name, ...like })
      expect([next.session, next.warm, next.cliSession]).toEqual([opened.session, true, opened.cliSession])
      expect(model.main().at(-1)!.raw).toContain('the word is quince')
    }
    // The process is gone, and its transcript has the other name.
    const cold = await turn({ prompt: 'which word', session_id: opened.session, append_system_prompt: 'Be long.' })
    expect([cold.warm, cold.done['status']]).toEqual([false, 'succeeded'])
    expect(model.main().at(-1)!.raw).toContain('the word is quince')
    const fork = await turn({ prompt: 'which word', session_id: opened.cliSession, fork_session: true })
    expect([fork.done['status'], fork.session === opened.session]).toEqual(['succeeded', false])
    expect(model.main().at(-1)!.raw).toContain('the word is quince')
  })

  it('is gone when its pool has other files, and the next turn knows them', async () => {
    model.script(() => text('yes'))
    const first = await turn({ prompt: 'one' })
    const put = await fleet.admin('/v1/config/rules.short', { method: 'PUT', body: JSON.stringify({ content: 'Say pomegranate.' }) })
    expect(put.ok).toBe(true)
    await until('the old processes to be gone', async () => (await status())['processes'] === 0)
    const second = await turn({ prompt: 'two', session_id: first.session })
    expect([second.warm, second.done['status']]).toEqual([false, 'succeeded'])
    expect(model.main().at(-1)!.raw).toContain('Say pomegranate.')
  })

  it('does not outlive its runner, however that ends', async () => {
    model.script(() => text('yes'))
    const { session } = await turn({ prompt: 'one' })
    expect(await living()).not.toEqual([])
    runner.child.kill('SIGKILL')
    await runner.ended
    await startRunner('spares = 0')
    expect([await living(), await readdir(join(state(), 'warm'))]).toEqual([[], []])
    expect(await turn({ prompt: 'two', session_id: session })).toMatchObject({ warm: false, done: { status: 'succeeded' } })
    expect(await living()).not.toEqual([])
    await runner.stop()
    expect([await living(), await readdir(join(state(), 'warm'))]).toEqual([[], []])
  })

  it('is none where its owner wants none, nor after a run that has a budget', async () => {
    await startRunner('warm_idle_s = 60')
    model.script(() => text('yes'))
    expect((await turn({ prompt: 'one', max_budget_usd: 5 })).done['status']).toBe('succeeded')
    await until('it to be gone', async () => (await living()).length === 0)
    await runner.stop()
    await startRunner('warm_idle_s = 0')
    const { session } = await turn({ prompt: 'two' })
    expect(await living()).toEqual([])
    expect((await turn({ prompt: 'three', session_id: session })).warm).toBe(false)
  })
})
