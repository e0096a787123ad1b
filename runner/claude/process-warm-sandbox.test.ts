/** Several turns of one process of the real CLI behind each sandbox that works here. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { alive, CLAUDE, Kept, Stage, type Part } from '../../test/fixtures/cli/stage.ts'
import { missing } from '../../test/kit/sandboxes.ts'
import { stall, text, toolUse, type Reply } from '../../test/model/scripted.ts'
import { detect, type Sandbox } from '../sandbox.ts'
import type { Launch } from './launch.ts'
import { ClaudeProcess } from './process.ts'

const env = { PATH: process.env['PATH'] }

const absent = { unshare: await missing('unshare'), bwrap: await missing('bwrap') }

describe.each(['unshare', 'bwrap'] as const)('the real CLI in %s', (mode) => {
  describe.skipIf(absent[mode] !== '')(`where it works${absent[mode]}`, () => {
    let stage: Stage
    let sandbox: Sandbox
    beforeAll(async () => {
      stage = await Stage.open()
      sandbox = await detect(mode, { env, claude: CLAUDE })
    })
    afterAll(() => stage.close())
    beforeEach(() => stage.model.script(() => text('ok')))

    const launch = (part: Part = {}): Launch => {
      const bare = stage.launch(part)
      const { cwd, configDir, privateDir } = bare
      const prefix = sandbox.prefix({ cwd, workspace: cwd, configDir, privateDir, home: stage.root, dirs: [], reads: [], writes: [] })
      return { ...bare, claude: sandbox.program, prefix }
    }
    const script = (...replies: Reply[]) => stage.model.script(() => replies.shift() ?? text('never'))
    const play = async (claude: ClaudeProcess) => {
      const sink = new Kept()
      const end = await claude.turn('hello', sink, { stay: true })
      return { end, answer: sink.ofType('result')[0]?.['result'] }
    }

    it('stays after a turn with a tool that has ended, and after an interrupt without one', async () => {
      script(toolUse('Bash', { command: 'echo one' }), text('done'), stall('half'), text('third'))
      const started = launch({ allowed_tools: ['Bash'], include_partial_messages: true })
      const claude = await ClaudeProcess.prepare(started)
      const { pid } = claude
      expect(await play(claude)).toMatchObject({ answer: 'done', end: { code: 0, signal: null } })
      expect(claude.isIdle).toBe(true)
      const sink = new Kept()
      const turn = claude.turn('hello', sink, { stay: true })
      await sink.seen('half')
      await claude.cancel('interrupt')
      expect(await turn).toMatchObject({ code: 1, result: { is_error: true } })
      expect((await play(claude)).answer).toBe('third')
      expect(claude.pid).toBe(pid)
      await claude.cancel('interrupt')
      expect(await alive({ marker: started.marker })).toEqual([])
    })

    it('does not stay with what a tool left, even without its marker', async () => {
      const seconds = 600 + Math.random()
      script(toolUse('Bash', { command: `env -i setsid sleep ${seconds} >/dev/null 2>&1 & echo started` }), text('done'))
      const claude = await ClaudeProcess.prepare(launch({ allowed_tools: ['Bash'] }))
      expect(await play(claude)).toMatchObject({ answer: 'done', end: { code: 0, signal: null } })
      expect(claude.isIdle).toBe(false)
      expect(await alive({ text: `sleep\0${seconds}` })).toEqual([])
    })
  })
})
