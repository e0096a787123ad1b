/** `runyard compat`, as an operator has it: the built command, against a router in this process. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Fleet } from './kit/fleet.ts'
import { startNodeFleet } from './kit/host-node.ts'
import { newMachine, type Ended, type Machine } from './kit/processes.ts'

let fleet: Fleet
let machine: Machine
beforeAll(async () => {
  fleet = await startNodeFleet()
  machine = await newMachine()
})
afterAll(async () => {
  await machine.close()
  await fleet.close()
})

const compat = (...args: string[]): Promise<Ended> =>
  machine.runyard(['compat', ...args, '--data-dir', machine.dataDir], { RUNYARD_URL: fleet.url, RUNYARD_TOKEN: fleet.adminToken })

describe('runyard compat', () => {
  it('shows what holds, and changes single settings of it', async () => {
    expect((await compat('show')).stdout).toMatch(/^ccs\.timeout_s +300$/m)
    const set = await compat('set', 'ccs.enabled=false', 'ccs.default_model=opus', 'claude_code_api.anonymous.tenant=default', '--json')
    expect([set.code, JSON.parse(set.stdout)]).toMatchObject([
      0,
      {
        claudecode2api: { enabled: true },
        ccs: { enabled: false, default_model: 'opus', timeout_s: 300 },
        claude_code_api: { anonymous: { tenant: 'default' } },
      },
    ])
    const taken = await compat('set', 'claude_code_api.anonymous=null', 'ccs.enabled=true')
    expect(taken.stdout).toMatch(/^ccs\.enabled +true$/m)
    expect(taken.stdout).not.toContain('anonymous')
  })

  it('says what is wrong with a setting', async () => {
    expect(await compat('set', 'ccs.colour=red')).toMatchObject({ code: 1, stderr: expect.stringContaining('ccs.colour') })
    expect(await compat('set', 'ccs')).toMatchObject({ code: 2, stderr: expect.stringContaining('must look like ccs.enabled=false') })
  })
})
