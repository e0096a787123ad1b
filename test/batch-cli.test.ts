/** `runyard batch` as a person has it: the built command, against a router in this process. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Fleet } from './kit/fleet.ts'
import { startNodeFleet } from './kit/host-node.ts'
import { newMachine, type Machine } from './kit/processes.ts'
import { echo } from './kit/turns.ts'

let fleet: Fleet
let machine: Machine
let file: string
beforeAll(async () => {
  fleet = await startNodeFleet()
  machine = await newMachine()
  file = join(machine.home, 'jobs')
  await fleet.runner({ turn: echo })
})
afterAll(async () => {
  await machine.close()
  await fleet.close()
})

async function batch(content: string, ...flags: string[]) {
  await writeFile(file, content)
  return machine.runyard(['batch', file, '--data-dir', machine.dataDir, ...flags], { RUNYARD_URL: fleet.url, RUNYARD_TOKEN: fleet.token })
}

describe('runyard batch', () => {
  it.each([
    ['a list', JSON.stringify([{ prompt: 'a' }, { prompt: 'b' }], undefined, 2)],
    ['a run a line', '{"prompt": "a"}\n\n{"prompt": "b"}\n'],
    ['a request', JSON.stringify({ items: [{ prompt: 'a' }, { prompt: 'b' }], defaults: { model: 'opus' } })],
  ])('starts the runs of %s and shows how they ended', async (_what, content) => {
    const { code, stdout } = await batch(content)
    expect([code, stdout.split('\n').map((line) => line.split(/ +/).slice(0, 2))]).toEqual([0, [['ITEM', 'STATUS'], ['0', 'succeeded'], ['1', 'succeeded']]])
  })

  it('says what was refused, and ends with 1', async () => {
    const { code, stdout } = await batch(`{"prompt": "a"}\n{"prompt": "b", "session_id": "${crypto.randomUUID()}"}`)
    expect(code).toBe(1)
    expect(stdout).toMatch(/^1 +refused +- +- +session_not_found: no session/m)
  })

  it('is the same batch for the same key', async () => {
    const one = async () => {
      const { code, stdout } = await batch('{"prompt": "a"}', '--key', 'same', '--json', '--detach')
      return [code, (JSON.parse(stdout) as { id: string }).id]
    }
    expect(await one()).toEqual([0, expect.stringMatching(/^bat_/)])
    expect(await one()).toEqual(await one())
  })

  it('says which line is no run', async () => {
    const wrong = await batch('{"prompt": "a"}\nhello\n')
    expect([wrong.code, wrong.stderr]).toEqual([2, expect.stringContaining('line 2 is not JSON')])
    const invalid = await batch('{"prompt": "a"}\n{"prompt": ""}\n')
    expect([invalid.code, invalid.stderr]).toEqual([1, expect.stringContaining('items.1.prompt: must not be blank')])
  })
})
