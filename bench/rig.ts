/**
 * One host with one runner, each a process of the built product, straight on loopback, and a CLI that costs next to nothing.
 *
 * What is measured on it, and when, is the caller's to say. It ends only what it started.
 */
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { ROOT, start, type Started } from '../test/chaos/processes.ts'
import { NodeRouter, WorkersRouter, type HostName, type Router } from '../test/chaos/routers.ts'
import { call, type Where } from '../test/chaos/subscriber.ts'

const FAST_CLAUDE = join(ROOT, 'bench/fast-claude.mjs')
const ONLINE_MS = 30_000

export interface Rig {
  readonly host: HostName
  readonly where: Where
  /** CPU seconds so far, user and system: of the process that serves, and of the runner without its CLIs. */
  cpu(): Promise<{ router: number; runner: number }>
  close(): Promise<void>
}

export async function openRig(host: HostName, slots: number): Promise<Rig> {
  const dir = await mkdtemp(join(tmpdir(), `runyard-bench-${host}-`))
  const env = { PATH: process.env['PATH'] ?? '/usr/bin:/bin', HOME: dir, TMPDIR: dir }
  const Host = host === 'node' ? NodeRouter : WorkersRouter
  const router: Router = new Host({ dir: join(dir, 'router'), env, logDir: dir })
  let runner: Started | undefined
  const close = async () => {
    await runner?.stop('SIGTERM')
    await router.stop('SIGKILL')
    await rm(dir, { recursive: true, force: true, maxRetries: 5 })
  }
  try {
    await router.start()
    runner = await startRunner(router, dir, env, slots)
  } catch (error) {
    await close()
    throw error
  }
  const pids = { router: router.pid, runner: runner.pid }
  return {
    host,
    where: { port: router.port, token: router.token },
    cpu: async () => ({ router: await cpuSeconds(pids.router), runner: await cpuSeconds(pids.runner) }),
    close,
  }
}

async function startRunner(router: Router, dir: string, env: Record<string, string>, slots: number): Promise<Started> {
  const admin = { port: router.port, token: router.adminToken }
  const { token } = JSON.parse((await call(admin, 'POST', '/admin/v1/enrolment-tokens', {})).body) as { token: string }
  const dataDir = join(dir, 'runner')
  const workspace = join(dir, 'work')
  await mkdir(workspace)
  const common = ['--json', `--data-dir=${dataDir}`, `--claude=${FAST_CLAUDE}`]
  await (await start('enroll', ['runner', 'enroll', `--url=http://127.0.0.1:${router.port}`, `--token=${token}`, ...common], env, dir)).ready
  await writeFile(join(dataDir, 'runner', 'runner.toml'), `slots = ${slots}\nsandbox = "none"\n`)
  const login = { ANTHROPIC_API_KEY: 'sk-bench-not-a-key' }
  const runner = await start('runner', ['runner', 'start', `--workspace=${workspace}`, ...common], { ...env, ...login }, dir)
  await runner.ready
  const deadline = performance.now() + ONLINE_MS
  while ((await call(admin, 'GET', '/readyz')).status !== 200) {
    if (performance.now() > deadline) throw new Error('the runner is not online')
    await sleep(20)
  }
  return runner
}

/** USER_HZ: what /proc counts in is 1/100 s on every Linux. */
const TICKS_PER_S = 100

async function cpuSeconds(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, 'latin1')
  // After the name, which may hold anything: state is field 3, utime 14, stime 15 (proc_pid_stat(5)).
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_S
}
