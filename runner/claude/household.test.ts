import { spawn, type ChildProcess } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { afterEach, describe, expect, it } from 'vitest'
import { MARKER_NAME } from './env.ts'
import { Household } from './household.ts'
import { descendantsOf, familyOf, sweep } from './sweep.ts'

const marker = randomUUID()
afterEach(() => sweep(marker))

/** A shell that does what it is told, with the marker. */
async function shell(): Promise<{ pid: number; tell: (line: string) => Promise<void>; child: ChildProcess }> {
  const child = spawn('bash', [], { env: { PATH: process.env['PATH'], [MARKER_NAME]: marker }, stdio: ['pipe', 'pipe', 'ignore'] })
  await once(child, 'spawn')
  const tell = async (line: string) => {
    child.stdin.write(`${line}\necho told\n`)
    await once(child.stdout, 'data')
  }
  await tell('true')
  return { pid: child.pid ?? 0, tell, child }
}

describe.runIf(process.platform === 'linux')('what is below a process', () => {
  it('is found without a look at all others', async () => {
    const { pid, tell } = await shell()
    await tell('(sleep 600; true) & sleep 600 &')
    // The shell in the background starts its own by and by.
    await expect.poll(async () => (await familyOf(pid)).length, { timeout: 10_000 }).toBe(4)
    const all = new Set((await familyOf(pid)).map((one) => one.pid))
    expect(new Set((await descendantsOf(pid))?.map((one) => one.pid))).toEqual(all)
    await sweep(marker)
    expect(await descendantsOf(pid)).toEqual([])
  })
})

describe.runIf(process.platform === 'linux')('the household of a process', () => {
  it('is itself and who was there when it was ready', async () => {
    const { pid, tell } = await shell()
    await tell('sleep 600 &')
    const household = new Household(pid, marker, false)
    await household.settled()
    expect(await household.hasGuests()).toBe(false)
    expect(await new Household(pid, marker, true).hasGuests()).toBe(true)
  })

  it.each([
    ['a child', 'sleep 600 &'],
    ['one without the marker', 'env -i sleep 600 &'],
    ['one that left its session and its parent', '(setsid sleep 600 &)'],
  ])('does not take in %s that came later', async (_what, command) => {
    const { pid, tell } = await shell()
    const household = new Household(pid, marker, false)
    await household.settled()
    await tell(command)
    expect(await household.hasGuests()).toBe(true)
  })

  it('is not alone while one that came later starts another in its place, again and again', async () => {
    const { pid } = await shell()
    const household = new Household(pid, marker, true)
    const command = 'bash -c "$0" "$0" & exit'
    const hopping = spawn('bash', ['-c', `echo; ${command}`, command], {
      env: { PATH: process.env['PATH'], [MARKER_NAME]: marker },
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    await once(hopping.stdout, 'data')
    for (let time = 0; time < 4; time++) expect(await household.hasGuests()).toBe(true)
  })

  it('waits a moment for one that is ending', async () => {
    const { pid, tell } = await shell()
    const household = new Household(pid, marker, true)
    await tell('sleep 0.05 &')
    expect(await household.hasGuests()).toBe(false)
  })

  it('that cannot be seen may have any guest', async () => {
    const { pid, child } = await shell()
    const household = new Household(pid, marker, true)
    child.kill('SIGKILL')
    await once(child, 'exit')
    expect(await household.hasGuests()).toBe(true)
  })
})
