import { spawn, type ChildProcess } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { alive } from '../../test/fixtures/cli/stage.ts'
import { MARKER_NAME } from './env.ts'
import { familyOf, householdOf, sweep } from './sweep.ts'

const PATH = process.env['PATH'] ?? ''

function shell(command: string, marker?: string): ChildProcess {
  const env = { PATH, ...(marker === undefined ? {} : { [MARKER_NAME]: marker }) }
  return spawn('bash', ['-c', command], { env, stdio: 'ignore' })
}

async function sleepers(seconds: number, count: number): Promise<void> {
  await expect.poll(() => alive({ text: `sleep\0${seconds}` }), { timeout: 10_000 }).toHaveLength(count)
}

/** All at once, whoever they are by now. */
function killGroup(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL')
  } catch {
    // Nobody is left.
  }
}

describe.runIf(process.platform === 'linux')('the sweep', () => {
  it('kills what carries the marker, in whatever session, and what descends from it', async () => {
    const [marker, seconds] = [randomUUID(), 700 + Math.random()]
    shell(`setsid nohup sleep ${seconds}1 & (trap '' TERM; env -i PATH="$PATH" sleep ${seconds}2) & sleep ${seconds}3`, marker)
    await sleepers(seconds, 3)
    expect(await sweep(marker)).toBeGreaterThanOrEqual(4)
    await sleepers(seconds, 0)
    expect(await sweep(marker)).toBe(0)
  })

  it('kills one whose first thread has ended and others have not, which looks like a zombie', async () => {
    const [marker, seconds] = [randomUUID(), 700 + Math.random()]
    // exit(2) of the thread alone, without what the interpreter would do before: SYS_exit is 60 or 93.
    const script = `import ctypes, os, platform, threading
threading.Thread(target=lambda: os.system("sleep ${seconds}")).start()
ctypes.CDLL(None).syscall({"x86_64": 60, "aarch64": 93}[platform.machine()], 0)`
    const child = spawn('python3', ['-c', script], { env: { PATH, [MARKER_NAME]: marker }, stdio: 'ignore' })
    const exited = once(child, 'exit')
    await sleepers(seconds, 1)
    await expect.poll(async () => (await readFile(`/proc/${child.pid}/stat`, 'utf8')).split(') ')[1]![0]).toBe('Z')
    expect((await familyOf(child.pid!)).map(({ pid }) => pid)).toContain(child.pid)
    const { members, isWhole } = await householdOf(process.pid, marker)
    expect([members.some(({ pid }) => pid === child.pid), isWhole]).toEqual([true, true])
    expect(await sweep(marker)).toBeGreaterThanOrEqual(2)
    expect(await exited).toEqual([null, 'SIGKILL'])
    await sleepers(seconds, 0)
  })

  it.each([
    // Its environment is empty for a moment, each time.
    ['starts another program in its place', 'exec bash -c "$0" "$0"'],
    // Who was listed is gone before it is looked at, and the one that it has started was not listed.
    ['starts another process in its place', 'bash -c "$0" "$0" & exit'],
  ])('kills what %s, again and again', { timeout: 60_000 }, async (_what, command) => {
    for (let time = 0; time < 8; time++) {
      const marker = randomUUID()
      const env = { PATH, [MARKER_NAME]: marker }
      const hopping = spawn('bash', ['-c', `echo; ${command}`, command], { env, detached: true, stdio: ['ignore', 'pipe', 'ignore'] })
      try {
        // Who lives holds its end of the pipe open.
        const over = once(hopping.stdout, 'end').then(() => true)
        await once(hopping.stdout, 'data')
        await sweep(marker)
        expect(await Promise.race([over, sleep(2_000, false)])).toBe(true)
      } finally {
        killGroup(hopping.pid ?? 0)
      }
    }
  })

  it('leaves others alone, also with a marker that differs in its end', async () => {
    const [marker, seconds] = [randomUUID(), 700 + Math.random()]
    shell(`sleep ${seconds}`, `${marker}0`)
    await sleepers(seconds, 1)
    expect(await sweep(marker)).toBe(0)
    await sleepers(seconds, 1)
    expect(await sweep(`${marker}0`)).toBe(1)
  })

  it('kills a family that was noted before its parent died', async () => {
    const seconds = 700 + Math.random()
    const parent = shell(`sleep ${seconds} & wait`)
    await sleepers(seconds, 1)
    const family = await familyOf(parent.pid ?? 0)
    expect(family).toHaveLength(2)
    const died = new Promise((resolve) => parent.once('exit', resolve))
    parent.kill('SIGKILL')
    await died
    expect(await sweep(randomUUID(), family)).toBe(1)
    await sleepers(seconds, 0)
  })

  it('does not take a pid that was given to another process for the one it noted', async () => {
    const seconds = 700 + Math.random()
    const child = spawn('sleep', [String(seconds)], { stdio: 'ignore' })
    await sleepers(seconds, 1)
    expect(await sweep(randomUUID(), [{ pid: child.pid ?? 0, startedAt: '1' }])).toBe(0)
    child.kill('SIGKILL')
  })

  it('spares the process that asks, and its children', async () => {
    const own = (await familyOf(process.ppid)).find(({ pid }) => pid === process.pid)
    expect(own).toBeUndefined()
    const [self] = await familyOf(process.pid)
    expect(self).toBeUndefined()
  })
})
