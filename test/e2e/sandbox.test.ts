/** What a sandbox keeps when the runner itself is gone: the built product, the real CLI, and a kill that nobody can catch. */
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { detect } from '../../runner/sandbox.ts'
import { enlist, type Enlisted } from '../kit/enlist.ts'
import { CLAUDE, newMachine, processesWith, type Command, type Machine } from '../kit/processes.ts'
import { readSse } from '../kit/sse.ts'
import { until } from '../kit/wait.ts'
import { startModel, text, toolUse, type Model } from '../model/scripted.ts'

const missing = async (mode: 'unshare' | 'bwrap') => {
  const found = await detect(mode, { env: process.env, claude: CLAUDE }).catch((error: unknown) => error)
  return found instanceof Error ? ` (left out: ${found.message})` : ''
}
const absent = { unshare: await missing('unshare'), bwrap: await missing('bwrap') }

describe.each(['unshare', 'bwrap'] as const)('a runner whose sandbox is %s', (mode) => {
  describe.skipIf(absent[mode] !== '')(`where it works${absent[mode]}`, () => {
    let machine: Machine
    let model: Model
    let fleet: Enlisted
    let runner: Command
    const start = async () => {
      runner = fleet.startRunner([`--sandbox=${mode}`, `--workspace=${machine.workspace}`])
      await fleet.online(runner)
    }
    beforeAll(async () => {
      machine = await newMachine()
      model = await startModel()
      fleet = await enlist(machine, model)
      await start()
    })
    afterEach(() => model.script(() => text('ok')))
    afterAll(async () => {
      await machine.close()
      await model.close()
    })

    it('has nothing of a run alive a second after it was killed, without being started again', async () => {
      const command = `sleep 6${String(Date.now()).slice(-6)}`
      const needle = command.replace(' ', '\0')
      // A child that leaves its session and its environment behind: no marker leads to it.
      const escaped = `sleep 5${String(Date.now()).slice(-6)}`
      model.script(() => toolUse('Bash', { command: `env -i setsid ${escaped} & ${command}` }))
      const response = await fleet.start({ prompt: 'Sleep.', allowed_tools: ['Bash'] })
      const reading = readSse(response)
      const left = async () => [...(await processesWith(needle)), ...(await processesWith(escaped.replace(' ', '\0')))]
      await until('both tools to run', async () => (await processesWith(escaped.replace(' ', '\0'))).length > 0 && (await processesWith(needle)).length > 0)
      const killed = performance.now()
      await runner.stop('SIGKILL')
      await until('everything of the run to be gone', async () => (await left()).length === 0, 1_000)
      process.stderr.write(`${mode}: nothing of the run alive ${Math.round(performance.now() - killed)} ms after the kill of the runner\n`)
      await start()
      const done = JSON.parse((await reading).events.at(-1)!.data) as unknown
      expect(done).toMatchObject({ status: 'failed', error: { code: 'runner_restarted' } })
    })

    it('writes files, resumes sessions, and cancels during a tool as without', async () => {
      const path = join(machine.workspace, `${mode}.txt`)
      const write = toolUse('Write', { file_path: path, content: 'inside' })
      model.script((request) => (request.raw.includes('"tool_result"') ? text('done') : write))
      const first = await fleet.run({ prompt: 'Write it. The word is plum.', cwd: machine.workspace, permission_mode: 'acceptEdits' })
      expect(first).toMatchObject({ status: 'succeeded' })
      expect(await readFile(path, 'utf8')).toBe('inside')
      model.script(() => text('plum'))
      expect(await fleet.run({ prompt: 'Which word?', session_id: first['session_id'] })).toMatchObject({ status: 'succeeded' })
      expect(model.main().at(-1)!.raw).toContain('The word is plum.')

      const command = `sleep 4${String(Date.now()).slice(-6)}`
      model.script(() => toolUse('Bash', { command }))
      const response = await fleet.start({ prompt: 'Sleep.', allowed_tools: ['Bash'] })
      const reading = readSse(response)
      await until('the tool to run', async () => (await processesWith(command.replace(' ', '\0'))).length > 0)
      await fleet.call(`/v1/runs/${response.headers.get('x-run-id')}/cancel`, { method: 'POST' })
      expect(JSON.parse((await reading).events.at(-1)!.data)).toMatchObject({ status: 'cancelled' })
      expect(await processesWith(command.replace(' ', '\0'))).toEqual([])
    })

    it('is named by doctor with what it means', async () => {
      const doctor = await machine.runyard(['runner', 'doctor', '--json', `--data-dir=${fleet.runnerDir}`, `--claude=${CLAUDE}`, `--sandbox=${mode}`])
      const { checks } = JSON.parse(doctor.stdout) as { checks: { name: string; detail: string }[] }
      expect(checks.find(({ name }) => name === 'sandbox')?.detail).toMatch(new RegExp(`^${mode}: a run `))
    })

    it('keeps tools out of the folders of the runner in a workspace that is around them, which doctor tells of', async () => {
      const flags = [`--data-dir=${fleet.runnerDir}`, `--sandbox=${mode}`, `--workspace=${machine.home}`]
      const doctor = await machine.runyard(['runner', 'doctor', '--json', ...flags, `--claude=${CLAUDE}`])
      const { checks } = JSON.parse(doctor.stdout) as { checks: { name: string; status: string }[] }
      expect(checks.find(({ name }) => name === 'workspace')?.status).toBe(mode === 'bwrap' ? 'ok' : 'warn')
      await runner.stop()
      const around = fleet.startRunner(flags)
      await fleet.online(around)
      const key = join(fleet.runnerDir, 'runner/signing.jwk')
      const secret = await readFile(key, 'utf8')
      const dir = fleet.runnerDir.slice(machine.home.length + 1)
      for (const cwd of [dir, `${dir}/runner`, join(fleet.runnerDir, 'runner/config')]) {
        expect(await (await fleet.start({ prompt: 'hi', cwd })).json(), cwd).toMatchObject({ code: 'cwd' })
      }
      model.script((request) => (request.raw.includes('"tool_result"') ? text('done') : toolUse('Read', { file_path: key })))
      expect(await fleet.run({ prompt: `Read it. @${dir}/runner/signing.jwk`, cwd: '.', allowed_tools: ['Read'] })).toMatchObject({ status: 'succeeded' })
      const { d } = JSON.parse(secret) as { d: string }
      expect(model.main().at(-1)!.raw).toContain('tool_result')
      expect(model.main().some(({ raw }) => raw.includes(d))).toBe(false)
      await around.stop()
      expect((await around.ended).stderr.includes('a workspace has the runner in it')).toBe(mode !== 'bwrap')
      await start()
    })
  })
})

describe('a sandbox that does not work', () => {
  it('keeps the runner from starting, and says why and what to do', async () => {
    const machine = await newMachine()
    const model = await startModel()
    try {
      const fleet = await enlist(machine, model)
      const tools = join(machine.home, 'bin')
      await mkdir(tools)
      await writeFile(join(tools, 'bwrap'), '#!/bin/sh\necho "No permissions to create new namespace" >&2\nexit 1\n', { mode: 0o755 })
      await writeFile(fleet.policyFile, 'sandbox = "bwrap"\n')
      const { code, stdout } = await fleet.startRunner([`--workspace=${machine.workspace}`], { PATH: `${tools}:${process.env['PATH']}` }).ended
      expect(code).toBe(78)
      expect(JSON.parse(stdout)).toMatchObject({ message: 'sandbox bwrap: it does not work here: No permissions to create new namespace', hint: expect.stringContaining('namespaces') })
    } finally {
      await machine.close()
      await model.close()
    }
  })
})
