/** What a CLI, and its turn, notices of the process that spawned it. */
import { readFile } from 'node:fs/promises'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { alive, Kept, Stage } from '../../test/fixtures/cli/stage.ts'
import { ClaudeProcess } from './process.ts'

let stage: Stage
beforeAll(async () => {
  stage = await Stage.open()
})
afterEach(() => {
  stage.logged.length = 0
})
afterAll(() => stage.close())

const parentOf = async (pid: number) => Number(/^PPid:\t(\d+)$/m.exec(await readFile(`/proc/${pid}/status`, 'utf8'))?.[1])
/** At each prompt it says so. It ends its turn at the word. */
const BODY = `out({ type: 'system', subtype: 'init' }); if (message.message.content.includes('at once')) result()`

describe('a CLI in the middle of its turn', () => {
  it('is killed when its spawner dies, with all others of it, and the next one starts as ever', async () => {
    const launches = await Promise.all(['one', 'two'].map((name) => stage.fake(name, BODY)))
    const two = await Promise.all(launches.map((launch) => ClaudeProcess.prepare(launch)))
    const sinks = two.map(() => new Kept())
    const turns = two.map((claude, n) => claude.turn('hello', sinks[n]!, { stay: true }))
    await Promise.all(sinks.map((sink) => sink.seen('init')))
    process.kill(await parentOf(two[0]!.pid), 'SIGKILL')
    for (const turn of turns) expect(await turn).toMatchObject({ code: null, signal: 'SIGKILL', result: undefined })
    for (const { marker } of launches) expect(await alive({ marker })).toEqual([])
    const next = await ClaudeProcess.prepare(await stage.fake('next', BODY))
    expect(await next.turn('at once', new Kept())).toMatchObject({ code: 0, signal: null, result: { is_error: false } })
  })

  it('that is killed with something unread leaves no warning of its pipes', async () => {
    const claude = await ClaudeProcess.prepare(await stage.fake('unread', BODY))
    process.kill(claude.pid, 'SIGSTOP')
    const turn = claude.turn('hello', new Kept())
    await expect.poll(() => claude.turns).toBe(1)
    process.kill(claude.pid, 'SIGKILL')
    expect(await turn).toMatchObject({ signal: 'SIGKILL' })
    expect(claude.turns).toBe(0)
    expect(stage.logged).toEqual([])
  })
})
