/** Faults of the machine below: its database locked, its disk full, its clock jumping. */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { statfs, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createClient } from '@libsql/client'
import { back, type Act, type Fault } from './fault.ts'
import type { Runner } from './stage.ts'

const databaseLocked: Fault = {
  name: 'database-locked',
  host: 'node',
  what: 'another connection holds the write lock of the database for 10 s',
  seconds: 28,
  leastSeconds: 12,
  async act(act) {
    const client = createClient({ url: `file:${act.stage.databaseFile}`, timeout: 5_000 })
    do {
      const lock = await client.transaction('write')
      act.inject()
      await act.pause(10_000)
      await lock.rollback()
      for (const runner of act.stage.runners) await back(act, runner)
      await act.pause(4_000)
    } while (!act.over)
    client.close()
  },
}

const SMALL_MB = 4
/** Mounted here; taken off again by `unmountAll` whatever happens. */
const mounted = new Set<string>()

const smallSpool: Fault = {
  name: 'small-spool',
  what: `the spool on a disk of ${SMALL_MB} MB, and no way to the router until it is full`,
  seconds: 25,
  mayFail: ['spool_full'],
  plan: (random) => ({ lines: 150 + Math.floor(random() * 100), everyMs: 40, bytes: 16_000 }),
  skip: () => (mountingIsPossible() ? undefined : 'mounting is not possible'),
  async before(stage) {
    const [runner] = stage.runners
    await runner!.process.stop('SIGTERM')
    mount(spoolOf(runner!))
    runner!.process = await stage.startRunner(runner!)
    await stage.untilOnline(runner!)
  },
  async act(act) {
    const [runner] = act.stage.runners
    do {
      await act.pause(3_000)
      act.inject()
      runner!.network.blackhole()
      await full(act, spoolOf(runner!))
      await act.pause(1_000)
      runner!.network.heal()
      await back(act, runner!)
      await act.pause(5_000)
    } while (!act.over)
  },
  after(stage) {
    unmount(spoolOf(stage.runners[0]!))
    return Promise.resolve()
  },
}

const spoolOf = (runner: Runner) => join(runner.dataDir, 'runner', 'spool')

async function full(act: Act, path: string): Promise<void> {
  const since = performance.now()
  while (performance.now() - since < 15_000) {
    const { bavail, bsize } = await statfs(path)
    if (bavail * bsize < 8_192) return act.note('disk full after s', (performance.now() - since) / 1_000)
    await act.pause(50)
  }
}

function mount(path: string): void {
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${SMALL_MB}m,mode=700`, 'runyard-chaos', path], { stdio: 'ignore' })
  mounted.add(path)
}

function unmount(path: string): void {
  if (!mounted.delete(path)) return
  // Lazily: a process that is being killed may still hold a file there.
  execFileSync('umount', ['-l', path], { stdio: 'ignore' })
}

export function unmountAll(): void {
  for (const path of mounted) unmount(path)
}

function mountingIsPossible(): boolean {
  const folder = mkdtempSync(join(tmpdir(), 'runyard-chaos-mount-'))
  try {
    mount(folder)
    unmount(folder)
    return true
  } catch {
    return false
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

const clockFile = ({ dataDir }: Pick<Runner, 'dataDir'>) => join(dataDir, 'clock')

const clockJumps: Fault = {
  name: 'clock-jumps',
  what: 'the wall clock of a runner jumps an hour ahead, back, and an hour behind (libfaketime)',
  seconds: 25,
  // A machine that slept may not start what it was told to before.
  mayFail: ['not_started'],
  skip: () => (faketime() === undefined ? 'libfaketime is not installed' : undefined),
  // The monotonic clock is not changed: no system does that when its date is set.
  env: (runner) => ({ LD_PRELOAD: faketime() ?? '', FAKETIME_TIMESTAMP_FILE: clockFile(runner), FAKETIME_NO_CACHE: '1', FAKETIME_DONT_FAKE_MONOTONIC: '1' }),
  async act(act) {
    const [runner] = act.stage.runners
    do {
      for (const offset of ['+3600', '+0', '-3600', '+0']) {
        act.inject()
        await writeFile(clockFile(runner!), offset)
        await act.pause(3_000)
      }
    } while (!act.over)
    await back(act, runner!)
  },
}

function faketime(): string | undefined {
  const lib = '/usr/lib'
  const folders = existsSync(lib) ? readdirSync(lib).filter((name) => name.endsWith('-linux-gnu')) : []
  const places = [process.env['CHAOS_LIBFAKETIME'], ...folders.map((name) => join(lib, name, 'faketime/libfaketime.so.1'))]
  return places.find((path) => path !== undefined && existsSync(path))
}

export const HOST_FAULTS: readonly Fault[] = [databaseLocked, smallSpool, clockJumps]
