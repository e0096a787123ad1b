/**
 * A router and runners in this process, over real sockets: for tests that steer the CLI themselves. Their CLI is a port
 * of the runner (`CliProcess`) that a test scripts; end-to-end tests with the real one are in test/e2e.
 */
import { mkdtemp, rm, mkdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { mintToken } from '../../router/guard/mint.ts'
import { startRouter, type RouterOptions, type RunningRouter } from '../../router/node/server.ts'
import type { Log } from '../../router/ports.ts'
import type { Offer } from '../../shared/frames.ts'
import { Agent, type AgentOptions } from '../../runner/agent.ts'
import { systemClock } from '../../runner/clock.ts'
import { enroll } from '../../runner/enroll.ts'
import type { CliProcess, TurnEnd, TurnSink } from '../../runner/held-run.ts'
import { loadIdentity } from '../../runner/identity.ts'
import { Link } from '../../runner/link.ts'

export const quiet: Log = { info: () => undefined, warn: () => undefined, error: () => undefined }

export interface Fleet {
  router: RunningRouter
  readonly dir: string
  readonly token: string
  readonly adminToken: string
  /** Requests as an app; `path` begins with a slash. */
  call(path: string, init?: RequestInit & { token?: string | null }): Promise<Response>
  run(body: object, headers?: Record<string, string>): Promise<Response>
  /** Ends the router and starts it anew on the same data and the same port. */
  restart(): Promise<void>
  runner(options: RunnerSetup): Promise<TestRunner>
  close(): Promise<void>
}

/** What the scripted CLI does with one turn. */
export type Turn = (sink: TurnSink, offer: Offer, stopped: Promise<string>) => Promise<Partial<TurnEnd> | void>
export type RunnerSetup = { turn: Turn; via?: number; slots?: number; name?: string; prepare?: AgentOptions['prepare']; spoolDir?: string }
export type TestRunner = { readonly agent: Agent; readonly id: string; readonly stateDir: string; stop(): Promise<void> }

export async function startFleet(log: Log = quiet, more: Partial<RouterOptions> = {}): Promise<Fleet> {
  const dir = await mkdtemp(join(tmpdir(), 'runyard-fleet-'))
  const start = (port: number) =>
    startRouter({ dataDir: join(dir, 'data'), host: '127.0.0.1', allowedHosts: [], corsOrigins: [], timeoutS: 600, log, ...more, port })
  const router = await start(0)
  const { token } = await mintToken(router.deps, { kind: 'app', tenant: 'default', subject: 'test' })
  const { token: adminToken } = await mintToken(router.deps, { kind: 'admin', tenant: 'default', subject: 'test-admin' })
  const runners: TestRunner[] = []
  const fleet: Fleet = {
    router,
    dir,
    token,
    adminToken,
    call(path, { token: bearer = token, headers, ...init } = {}) {
      const all = new Headers(headers)
      if (bearer !== null && !all.has('authorization')) all.set('authorization', `Bearer ${bearer}`)
      if (typeof init.body === 'string' && !all.has('content-type')) all.set('content-type', 'application/json')
      return fetch(fleet.router.url + path, { ...init, headers: all })
    },
    run: (body, headers = {}) => fleet.call('/v1/runs', { method: 'POST', body: JSON.stringify(body), headers }),
    async restart() {
      const port = Number(new URL(fleet.router.url).port)
      await fleet.router.close()
      fleet.router = await start(port)
    },
    async runner(setup) {
      const runner = await startRunner(fleet, setup)
      runners.push(runner)
      return runner
    },
    async close() {
      for (const runner of runners) await runner.stop()
      await fleet.router.close()
      await rm(dir, { recursive: true, force: true })
    },
  }
  return fleet
}

async function startRunner(fleet: Fleet, { turn, via, slots = 4, name = 'test', prepare, ...setup }: RunnerSetup): Promise<TestRunner> {
  const made = await fleet.call('/admin/v1/enrolment-tokens', { method: 'POST', token: fleet.adminToken, body: '{}' })
  const { token } = (await made.json()) as { token: string }
  const url = via === undefined ? fleet.router.url : `http://127.0.0.1:${via}`
  const stateDir = await mkdtemp(join(fleet.dir, 'runner-'))
  await enroll({ url, token, name, labels: {}, stateDir })
  const identity = await loadIdentity(stateDir)
  if (!identity) throw new Error('not enrolled')
  const spoolDir = setup.spoolDir ?? join(stateDir, 'spool')
  await mkdir(spoolDir, { recursive: true })
  const agent = new Agent({
    clock: systemClock,
    spoolDir,
    slots,
    labels: {},
    provider: 'local',
    cliVersion: '0.0.0-test',
    os: 'test',
    prepare: prepare ?? ((offer) => Promise.resolve({ process: scripted(turn, offer), cwd: '/work', provider: 'local', dispose: () => Promise.resolve() })),
    sweep: () => Promise.resolve(0),
    diskFree: () => 1e9,
    load: () => 0,
    log: () => undefined,
  })
  await agent.recover()
  const link = new Link(identity, agent, { log: () => undefined })
  const running = link.run()
  let stopped: Promise<void> | undefined
  const runner: TestRunner = {
    agent,
    id: identity.runnerId,
    stateDir,
    stop: () =>
      (stopped ??= (async () => {
        await agent.stop()
        link.stop()
        await running
        await agent.close()
      })()),
  }
  for (;;) {
    const online = await fleet.router.deps.hub.online('default')
    if (online.some((r) => r.id === runner.id)) return runner
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

function scripted(turn: Turn, offer: Offer): CliProcess {
  let stop: (mode: string) => void = () => undefined
  const stopped = new Promise<string>((resolve) => (stop = resolve))
  let running: Promise<unknown> = Promise.resolve()
  return {
    cliVersion: '0.0.0-test',
    async turn(sink) {
      const end = turn(sink, offer, stopped)
      running = end
      return { code: 0, signal: null, result: undefined, ...(await end) }
    },
    async cancel(mode) {
      stop(mode)
      await running
    },
    pause: () => undefined,
    resume: () => undefined,
  }
}

/** A turn that prints these lines and succeeds with the last one as its result. */
export const print =
  (lines: (offer: Offer) => readonly string[]): Turn =>
  (sink, offer) => {
    let seq = 0
    for (const line of lines(offer)) seq = sink.line(Buffer.from(line))
    return Promise.resolve({ result: resultAt(seq) })
  }

export function resultAt(seq: number) {
  const usage = { input_tokens: 1, output_tokens: 1, cache_creation_input_tokens: 0, cache_read_input_tokens: 0 }
  return { seq, is_error: false, cost_usd: 0.5, usage, num_turns: 1 }
}
