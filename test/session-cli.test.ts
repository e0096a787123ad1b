/** `runyard session` as a person has it: the built command, against a router in this process. */
import { afterAll, beforeAll, expect, it } from 'vitest'
import type { Fleet, Json } from './kit/fleet.ts'
import { startNodeFleet } from './kit/host-node.ts'
import { newMachine, type Ended, type Machine } from './kit/processes.ts'
import { echo } from './kit/turns.ts'

let fleet: Fleet
let machine: Machine
let id: string
beforeAll(async () => {
  fleet = await startNodeFleet()
  machine = await newMachine()
  await fleet.runner({ turn: echo })
  const run = (await (await fleet.run({ prompt: 'first line\nsecond \u001B[31mline' })).json()) as Json
  id = String(run['session_id'])
})
afterAll(async () => {
  await machine.close()
  await fleet.close()
})

const runyard = (...args: string[]): Promise<Ended> =>
  machine.runyard(['session', ...args, '--data-dir', machine.dataDir], { RUNYARD_URL: fleet.url, RUNYARD_TOKEN: fleet.token })
async function words(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await runyard(...args)
  expect([code, stderr], args.join(' ')).toEqual([0, expect.anything()])
  return stdout
}
const json = async (...args: string[]) => JSON.parse(await words(...args, '--json')) as Json

it('sessions are renamed, listed, shown and found', async () => {
  expect(await words('rename', id, 'Plans \u001B[2J')).toBe(`session ${id} is called Plans ?[2J, active`)
  expect(await words('list')).toMatch(new RegExp(String.raw`^${id} +Plans \?\[2J +active +1 +\$0\.5000 `, 'm'))
  expect(await words('show', id)).toMatch(/^messages +2$/m)
  expect(await json('search', 'SECOND')).toMatchObject({ data: [{ id, title: 'Plans \u001B[2J' }] })
  expect(await json('search', 'nothing of the kind')).toEqual({ data: [] })
  expect(await words('rename', id, '')).toBe(`session ${id} is without a title, active`)
})

it('what was said is shown in its order, and cannot move the cursor', async () => {
  const said = await words('messages', id)
  expect(said).toMatch(/^user .*\nfirst line\nsecond \?\[31mline\n\nassistant .*\nfirst line\nsecond \?\[31mline\n/)
  expect(await json('messages', id, '--limit', '1')).toMatchObject({ data: [{ role: 'assistant' }] })
})

it('they are put aside, taken up again and deleted', async () => {
  expect(await json('archive', id)).toMatchObject({ status: 'archived' })
  expect(await json('list', '--status', 'active')).toEqual({ data: [] })
  expect((await fleet.run({ prompt: 'x', session_id: id })).status).toBe(409)
  expect(await json('archive', id, '--undo')).toMatchObject({ status: 'active' })
  expect(await words('delete', id)).toBe(`session ${id} is deleted`)
  const { code, stderr } = await runyard('show', id)
  expect([code, stderr]).toEqual([1, expect.stringMatching(/no session .* \(session_not_found\)/)])
  expect(await words('list')).toBe('there are no sessions yet')
})
