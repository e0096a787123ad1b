/** A CLI that dies around the moment in which it is given its prompt: whether it had read it decides if another one may have it. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Kept, Stage } from '../../test/fixtures/cli/stage.ts'
import { ClaudeProcess } from './process.ts'

let stage: Stage
beforeAll(async () => {
  stage = await Stage.open()
})
afterAll(() => stage.close())

const NOTHING_SAID = { code: null, signal: 'SIGKILL', result: undefined }

async function stopped(name: string): Promise<ClaudeProcess> {
  const claude = await ClaudeProcess.prepare(await stage.fake(name, 'result()'))
  process.kill(claude.pid, 'SIGSTOP')
  return claude
}

describe('a process that is killed', () => {
  it('without having read its prompt was not given it', async () => {
    const claude = await stopped('deaf')
    const turn = claude.turn('hello', new Kept(), { stay: true })
    await expect.poll(() => claude.turns).toBe(1)
    process.kill(claude.pid, 'SIGKILL')
    expect(await turn).toMatchObject(NOTHING_SAID)
    expect(claude.turns).toBe(0)
  })

  it('without having read a prompt that its pipe could not hold was not given it', async () => {
    const claude = await stopped('slow')
    const turn = claude.turn('x'.repeat(4_000_000), new Kept())
    await expect.poll(() => claude.turns).toBe(1)
    process.kill(claude.pid, 'SIGKILL')
    expect(await turn).toMatchObject(NOTHING_SAID)
    expect(claude.turns).toBe(0)
  })

  it('when it had read its prompt was given it, although it said nothing', async () => {
    const claude = await ClaudeProcess.prepare(await stage.fake('dying', `process.kill(process.pid, 'SIGKILL')`))
    expect(await claude.turn('hello', new Kept(), { stay: true })).toMatchObject(NOTHING_SAID)
    expect(claude.turns).toBe(1)
  })

  it('in a turn that is cancelled counts as given, since nobody wants it elsewhere', async () => {
    const claude = await stopped('cancelled')
    const turn = claude.turn('hello', new Kept(), { stay: true })
    await expect.poll(() => claude.turns).toBe(1)
    await claude.cancel('kill')
    expect(await turn).toMatchObject(NOTHING_SAID)
    expect(claude.turns).toBe(1)
  })
})
