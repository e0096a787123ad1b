/**
 * One host with one runner, each a process of the built product, straight on loopback, and a CLI that costs next to nothing.
 *
 * What is measured on it, and when, is the caller's to say. It ends only what it started.
 */
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { start, type Started } from '../test/chaos/processes.ts'
import { NodeRouter, WorkersRouter, type HostName, type Router } from '../test/chaos/routers.ts'
import { call, type Where } from '../test/chaos/subscriber.ts'
import { fakeClaude } from './fake/build.ts'
import { used, usedByRunner, type Used } from './proc.ts'
import { makeTemp, removeTemp } from './temp.ts'

/** No bench is to fail because the machine is slow. */
const ONLINE_MS = 180_000
const COLD = 'warm_idle_s = 0\nspares = 0'

export interface RigOptions {
  readonly host?: HostName
  /** 0: no runner; whoever asked for the rig connects others. */
  readonly slots: number
  /** Path of the CLI; the fake one unless told. */
  readonly claude?: string
  /** Keeps CLIs between turns and has spares, as a runner does by itself. A bench of anything else is without them. */
  readonly warm?: boolean
  /** Further lines of `runner.toml`. */
  readonly policy?: string
  /** What the runner has in its environment besides; by default a key that pays for nothing. */
  readonly runnerEnv?: Readonly<Record<string, string>>
}

/** What serves runs and is measured: the product, or a floor. */
export interface Target {
  readonly name: string
  readonly where: Where
  /** Of the process that serves, and of the one that starts the CLIs, without them. Undefined where there is none. */
  used(): Promise<{ router: Used; runner: Used | undefined }>
  close(): Promise<void>
}

export interface Rig extends Target {
  readonly host: HostName
  readonly admin: Where
  /** Its processes, data and logs are in here until it is closed. */
  readonly dir: string
  readonly pids: { readonly router: number; readonly runner: number | undefined }
}

export async function openRig(options: RigOptions): Promise<Rig> {
  const { host = 'node', slots } = options
  const dir = await makeTemp(host)
  const env: Record<string, string> = { PATH: process.env['PATH'] ?? '/usr/bin:/bin', HOME: dir, TMPDIR: dir }
  // For a profile of the product: NODE_OPTIONS of its processes, not of the bench.
  const nodeOptions = process.env['BENCH_NODE_OPTIONS']
  if (nodeOptions !== undefined) env['NODE_OPTIONS'] = nodeOptions
  const Host = host === 'node' ? NodeRouter : WorkersRouter
  const router: Router = new Host({ dir: join(dir, 'router'), env, logDir: dir })
  let runner: Started | undefined
  const close = async () => {
    await runner?.stop('SIGTERM')
    await router.stop(nodeOptions === undefined ? 'SIGKILL' : 'SIGTERM')
    await removeTemp(dir)
  }
  try {
    await router.start()
    if (slots > 0) runner = await startRunner(router, dir, env, options)
  } catch (error) {
    await close()
    throw error
  }
  const pids = { router: router.pid, runner: runner?.pid }
  return {
    name: 'ours',
    host,
    where: { port: router.port, token: router.token },
    admin: { port: router.port, token: router.adminToken },
    dir,
    pids,
    used: async () => ({ router: await used(pids.router), runner: pids.runner === undefined ? undefined : await usedByRunner(pids.runner) }),
    close,
  }
}

async function startRunner(router: Router, dir: string, env: Record<string, string>, options: RigOptions): Promise<Started> {
  const { slots, warm = false, policy = '', runnerEnv = { ANTHROPIC_API_KEY: 'sk-bench-not-a-key' } } = options
  const admin = { port: router.port, token: router.adminToken }
  const { token } = JSON.parse((await call(admin, 'POST', '/admin/v1/enrolment-tokens', {})).body) as { token: string }
  const dataDir = join(dir, 'runner')
  const workspace = join(dir, 'work')
  await mkdir(workspace)
  const common = ['--json', `--data-dir=${dataDir}`, `--claude=${options.claude ?? (await fakeClaude())}`]
  await (await start('enroll', ['runner', 'enroll', `--url=http://127.0.0.1:${router.port}`, `--token=${token}`, ...common], env, dir)).ready
  const lines = [`slots = ${slots}`, 'sandbox = "none"', ...(warm ? [] : [COLD]), policy, '']
  await writeFile(join(dataDir, 'runner', 'runner.toml'), lines.join('\n'))
  const runner = await start('runner', ['runner', 'start', `--workspace=${workspace}`, ...common], { ...env, ...runnerEnv }, dir)
  await runner.ready
  const deadline = performance.now() + ONLINE_MS
  while ((await call(admin, 'GET', '/readyz')).status !== 200) {
    if (performance.now() > deadline) throw new Error(`the runner is not online: ${(await readFile(join(dir, 'runner.log'), 'utf8')).slice(-500)}`)
    await sleep(20)
  }
  return runner
}
