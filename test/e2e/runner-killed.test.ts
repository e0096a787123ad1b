/** `kill -9` of a runner while its real CLI runs a tool: nothing of the run may outlive the runner's return. */
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { CLAUDE, newMachine, processesWith, type Command, type Machine } from '../kit/processes.ts'
import { idsOf, readSse } from '../kit/sse.ts'
import { until } from '../kit/wait.ts'
import { startModel, toolUse, type Model } from '../model/scripted.ts'

const BACK_WITHIN_MS = 5_000

describe('a runner that is killed during a tool', () => {
  let machine: Machine
  let model: Model
  let url: string
  let token: string
  let runner: Command
  let runnerDir: string

  const startRunner = async () => {
    // Without a PID namespace, in which all of it would be gone before anybody is back.
    const args = ['runner', 'start', '--json', '--sandbox=none', `--data-dir=${runnerDir}`, `--workspace=${machine.workspace}`, `--claude=${CLAUDE}`]
    runner = machine.start(args, { ANTHROPIC_BASE_URL: model.url, ANTHROPIC_API_KEY: 'sk-test-not-a-key-000' })
    await runner.event('ready')
  }

  beforeAll(async () => {
    machine = await newMachine()
    model = await startModel()
    const ready = await machine.start(['router', '--json', '--port=0', `--data-dir=${machine.dataDir}`]).event('ready')
    url = ready['url']!
    token = ready['token']!
    const made = await fetch(`${url}/admin/v1/enrolment-tokens`, {
      method: 'POST',
      headers: { authorization: `Bearer ${ready['admin_token']}`, 'content-type': 'application/json' },
      body: '{}',
    })
    const { token: once } = (await made.json()) as { token: string }
    runnerDir = join(machine.home, 'runner-data')
    const enrolled = await machine.runyard(['runner', 'enroll', `--url=${url}`, `--token=${once}`, `--data-dir=${runnerDir}`, '--json'])
    if (enrolled.code !== 0) throw new Error(enrolled.stderr)
    await startRunner()
    await until('the runner to be connected', async () => (await fetch(`${url}/readyz`)).ok)
  })
  afterAll(async () => {
    await machine.close()
    await model.close()
  })

  it('kills what is left of the run when it is back, and says what happened to it', async () => {
    // Unlike any other sleep on this machine.
    const seconds = `6${Date.now() % 100_000}`
    const sleeping = `sleep\0${seconds}`
    model.script(() => toolUse('Bash', { command: `sleep ${seconds}`, description: 'sleep' }))
    const response = await fetch(`${url}/v1/runs`, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json', accept: 'text/event-stream' },
      body: JSON.stringify({ prompt: 'Sleep.', allowed_tools: ['Bash'] }),
    })
    const reading = readSse(response)
    await until('the tool to run', async () => (await processesWith(sleeping)).length > 0, 20_000)

    runner.child.kill('SIGKILL')
    await runner.ended
    expect(await processesWith(sleeping)).not.toEqual([])
    const backSince = performance.now()
    await startRunner()
    const { events } = await reading
    await until('the tool to be gone', async () => (await processesWith(sleeping)).length === 0)
    expect(performance.now() - backSince).toBeLessThan(BACK_WITHIN_MS)

    expect(JSON.parse(events.at(-1)!.data)).toMatchObject({ status: 'failed', error: { code: 'runner_restarted' } })
    expect(idsOf(events)).toEqual(events.map((_, i) => i + 1))
    // All that is left is the runner itself: no CLI, no shell.
    const state = join(runnerDir, 'runner')
    expect(await processesWith(`CLAUDE_CONFIG_DIR=${state}`)).toEqual([])
    await until('the spool to be empty', async () => (await readdir(join(state, 'spool'))).length === 0)
    expect(await readdir(join(state, 'runs')).catch(() => [])).toEqual([])
  })
})
