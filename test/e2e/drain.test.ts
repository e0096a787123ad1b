/** `runyard runner drain` as an owner uses it who wants to restart a machine without hurting a run. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { enlist, type Enlisted } from '../kit/enlist.ts'
import { CLAUDE, newMachine, type Command, type Machine } from '../kit/processes.ts'
import { readSse } from '../kit/sse.ts'
import { until } from '../kit/wait.ts'
import { startModel, text, type Model } from '../model/scripted.ts'

describe('runyard runner drain', () => {
  let machine: Machine
  let model: Model
  let fleet: Enlisted
  let runner: Command
  let answer: () => void
  let asked: Promise<void>
  beforeAll(async () => {
    machine = await newMachine()
    model = await startModel()
    fleet = await enlist(machine, model)
  })
  beforeEach(async () => {
    // The model answers when the test says so.
    let ask: () => void = () => undefined
    asked = new Promise((resolve) => (ask = resolve))
    const answered = new Promise<void>((resolve) => (answer = resolve))
    model.script(() => async (response) => {
      ask()
      await answered
      await text('finished in peace')(response)
    })
    runner = fleet.startRunner([`--workspace=${machine.workspace}`])
    await fleet.online(runner)
  })
  afterAll(async () => {
    await machine.close()
    await model.close()
  })

  const drain = (...flags: string[]) => machine.start(['runner', 'drain', `--data-dir=${fleet.runnerDir}`, ...flags])

  it('lets a run finish, takes no new one meanwhile, and ends the runner with 0', async () => {
    const running = readSse(await fleet.start({ prompt: 'Take your time.' }))
    await asked
    const draining = drain()
    await until('the router to know', async () => (await fleet.states()).includes('draining'))
    await until('the progress to be told', () => draining.stderr.some((line) => line.includes('1 run is left')))
    const refused = await fleet.call('/v1/runs', { method: 'POST', body: JSON.stringify({ prompt: 'One more?', queue_timeout_s: 1 }), headers: { accept: 'text/event-stream' } })
    expect(refused.ok).toBe(false)
    expect([429, 503]).toContain(refused.status)
    expect(runner.child.exitCode).toBe(null)
    answer()
    const done = JSON.parse((await running).events.at(-1)!.data) as Record<string, unknown>
    expect(done).toMatchObject({ status: 'succeeded' })
    expect(await draining.ended).toMatchObject({ code: 0, stdout: '' })
    expect((await runner.ended).code).toBe(0)
    await until('the router to miss it', async () => (await fleet.states()).includes('offline'))
  })

  it('ends an idle runner at once, and says so as JSON', async () => {
    const { code, stdout } = await drain('--json').ended
    expect(code).toBe(0)
    expect(JSON.parse(stdout)).toEqual({ event: 'drained', pid: runner.child.pid })
    expect((await runner.ended).code).toBe(0)
  })

  it('is over sooner when the runner is told to stop meanwhile', async () => {
    const running = readSse(await fleet.start({ prompt: 'Take your time.' }))
    await asked
    const draining = drain()
    await until('the progress to be told', () => draining.stderr.length > 0)
    expect((await runner.stop('SIGTERM')).code).toBe(0)
    expect(JSON.parse((await running).events.at(-1)!.data)).toMatchObject({ status: 'failed', error: { code: 'runner_stopped' } })
    expect((await draining.ended).code).toBe(0)
  })

  it('says unavailable when no runner runs there, and signals nobody else', async () => {
    await runner.stop('SIGKILL')
    const gone = await drain().ended
    expect(gone.code).toBe(69)
    expect(gone.stderr).toContain('no runner of this data directory is running')
  })
})

describe('runyard runner drain beside `up`', () => {
  it('leaves a router of `up` going, which then starts no other runner', async () => {
    const other = await newMachine()
    const up = other.start(['up', '--json', '--port=0', `--data-dir=${other.dataDir}`, `--claude=${CLAUDE}`])
    try {
      const { url, token } = await up.event('ready')
      expect(await other.runyard(['runner', 'drain', `--data-dir=${other.dataDir}`])).toMatchObject({ code: 0 })
      await until('it to be told', () => up.stderr.some((line) => line.includes('goes on without it')))
      const runners = (await (await fetch(`${url}/v1/runners`, { headers: { 'x-api-key': token! } })).json()) as { data: unknown[] }
      expect(runners.data).toEqual([expect.objectContaining({ status: 'offline' })])
      expect((await up.stop()).code).toBe(0)
    } finally {
      await other.close()
    }
  })
})
