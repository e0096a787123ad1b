/**
 * A host and runners in this process, over real sockets, for tests that steer the CLI themselves. What is asked of the
 * host goes over HTTP. End-to-end tests with the real CLI are in test/e2e.
 */
import { mkdtemp, rm, mkdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { SCOPES } from '../../router/core/scopes.ts'
import { mint } from '../../router/guard/tokens.ts'
import type { Offer } from '../../shared/frames.ts'
import { Agent, type AgentOptions } from '../../runner/agent.ts'
import { systemClock } from '../../runner/clock.ts'
import { enroll } from '../../runner/enroll.ts'
import type { Prepared } from '../../runner/held-run.ts'
import { loadIdentity, type Identity } from '../../runner/identity.ts'
import { Link } from '../../runner/link.ts'
import type { Host, HostOptions, OpenHost } from './host.ts'
import { scripted, type Turn } from './turns.ts'
import { until } from './wait.ts'

export type Json = Record<string, unknown>
/** A run as the API shows it, as far as tests look. */
export type RunView = Json & {
  readonly id: string
  readonly status: string
  readonly session_id: string
  readonly runner_id: string | null
  readonly queue_position?: number
  readonly error?: { readonly code: string; readonly message: string }
}
export type RunnerView = { readonly id: string; readonly status: string; readonly slots: number; readonly busy: number }

export interface Fleet<Opened extends OpenHost = OpenHost> {
  readonly host: Opened
  readonly url: string
  readonly tenant: string
  readonly token: string
  readonly adminToken: string
  /** Requests as an app; `path` begins with a slash. */
  call(path: string, init?: RequestInit & { token?: string | null }): Promise<Response>
  run(body: object, headers?: Record<string, string>): Promise<Response>
  /** Runs with `respond-async`; fails unless it is taken. */
  start(body: object, headers?: Record<string, string>): Promise<RunView>
  get(id: string): Promise<RunView>
  /** Waits until the run has this status; fails when it ends with another one. */
  until(id: string, status: string, timeoutMs?: number): Promise<RunView>
  list(query?: string): Promise<RunView[]>
  runners(): Promise<RunnerView[]>
  /** Waits until each of its runners has this status. */
  allRunners(status: RunnerView['status'], timeoutMs?: number): Promise<void>
  /** Ends the host and starts it anew on the same data and the same port. */
  restart(): Promise<void>
  /** A machine that is enrolled and does nothing yet. */
  enlist(options?: Membership): Promise<Enlisted>
  runner(options: RunnerSetup): Promise<TestRunner>
  /** The same host as somebody else sees it; its `close` stops its own runners only. */
  as(tenant: string): Promise<Fleet<Opened>>
  close(): Promise<void>
}

/** `via`: the port of a proxy. */
export type Membership = {
  readonly name?: string
  readonly pool?: string
  readonly labels?: Record<string, string>
  readonly via?: number
}
export type Enlisted = { readonly identity: Identity; readonly stateDir: string }
export type RunnerSetup = Membership & {
  readonly turn: Turn
  readonly slots?: number
  readonly prepare?: AgentOptions['prepare']
  readonly spoolDir?: string
}
export type TestRunner = Enlisted & { readonly agent: Agent; readonly id: string; stop(): Promise<void> }

const ENDINGS = new Set(['succeeded', 'failed', 'cancelled', 'lost'])

export async function startFleet<Opened extends OpenHost, Options extends HostOptions>(
  host: Host<Opened, Options>,
  options: Options,
): Promise<Fleet<Opened>> {
  const opened = await host.open(options)
  const dir = await mkdtemp(join(tmpdir(), 'runyard-fleet-'))
  return fleetOf(opened, dir, 'default', async () => {
    await opened.close()
    await rm(dir, { recursive: true, force: true })
  })
}

async function fleetOf<Opened extends OpenHost>(
  host: Opened,
  dir: string,
  tenant: string,
  closeHost: () => Promise<void>,
): Promise<Fleet<Opened>> {
  const admin = { kind: 'admin', tenant, subject: 'test-admin', jti: crypto.randomUUID(), scopes: SCOPES, ttlS: 3_600 } as const
  const { token: adminToken } = await mint(host.keys, admin, Date.now())
  const runners: TestRunner[] = []
  const closers: (() => Promise<void>)[] = []
  const fleet: Omit<Fleet<Opened>, 'token'> & { token: string } = {
    host,
    url: host.url,
    tenant,
    token: '',
    adminToken,
    call(path, { token: bearer = fleet.token, headers, ...init } = {}) {
      const all = new Headers(headers)
      if (bearer !== null && !all.has('authorization')) all.set('authorization', `Bearer ${bearer}`)
      if (typeof init.body === 'string' && !all.has('content-type')) all.set('content-type', 'application/json')
      return fetch(host.url + path, { ...init, headers: all })
    },
    run: (body, headers = {}) => fleet.call('/v1/runs', { method: 'POST', body: JSON.stringify(body), headers }),
    start: async (body, headers = {}) => jsonOf<RunView>(await fleet.run(body, { prefer: 'respond-async', ...headers }), 202),
    get: async (id) => jsonOf<RunView>(await fleet.call(`/v1/runs/${id}`)),
    until: (id, status, timeoutMs) =>
      until(`run ${id} to be ${status}`, async () => {
        const run = await fleet.get(id)
        if (run.status === status) return run
        if (ENDINGS.has(run.status)) throw new Error(`run ${id} is not ${status} but ${JSON.stringify(run)}`)
        return undefined
      }, timeoutMs),
    list: async (query = '') => (await jsonOf<{ data: RunView[] }>(await fleet.call(`/v1/runs${query}`))).data,
    runners: async () => (await jsonOf<{ data: RunnerView[] }>(await fleet.call('/v1/runners'))).data,
    async allRunners(status, timeoutMs) {
      const all = async () => (await fleet.runners()).every((runner) => runner.status === status)
      await until(`its runners to be ${status}`, all, timeoutMs)
    },
    restart: () => host.restart(),
    enlist: (membership = {}) => enlist(fleet, dir, membership),
    async runner(setup) {
      const runner = await startRunner(fleet, setup)
      runners.push(runner)
      const isOnline = ({ id, status }: RunnerView) => id === runner.id && status !== 'offline'
      await until(`runner ${runner.id} to be online`, async () => (await fleet.runners()).some(isOnline))
      return runner
    },
    async as(other) {
      const theirs = await fleetOf(host, dir, other, () => Promise.resolve())
      closers.push(() => theirs.close())
      return theirs
    },
    async close() {
      for (const close of closers) await close()
      for (const runner of runners) await runner.stop()
      await closeHost()
    },
  }
  fleet.token = (await admins<{ token: string }>(fleet, 'tokens', { kind: 'app', subject: 'test' })).token
  return fleet
}

/** What the admin API answers to a POST that makes something. */
export async function admins<T>(fleet: Pick<Fleet, 'call' | 'adminToken'>, path: string, body: object): Promise<T> {
  const init = { method: 'POST', token: fleet.adminToken, body: JSON.stringify(body) }
  return jsonOf<T>(await fleet.call(`/admin/v1/${path}`, init), 201)
}

async function jsonOf<T>(response: Response, status = 200): Promise<T> {
  const text = await response.text()
  if (response.status !== status) throw new Error(`${response.url} answered ${response.status}: ${text}`)
  return JSON.parse(text) as T
}

async function enlist(fleet: Pick<Fleet, 'call' | 'adminToken' | 'url'>, dir: string, as: Membership): Promise<Enlisted> {
  const { name = 'test', pool, labels = {}, via } = as
  const { token } = await admins<{ token: string }>(fleet, 'enrolment-tokens', pool === undefined ? {} : { pool })
  const stateDir = await mkdtemp(join(dir, 'runner-'))
  await enroll({ url: via === undefined ? fleet.url : `http://127.0.0.1:${via}`, token, name, labels, stateDir })
  const identity = await loadIdentity(stateDir)
  if (!identity) throw new Error('not enrolled')
  return { identity, stateDir }
}

async function startRunner(fleet: Pick<Fleet, 'enlist'>, setup: RunnerSetup): Promise<TestRunner> {
  const { turn, slots = 4, prepare } = setup
  const { identity, stateDir } = await fleet.enlist(setup)
  const spoolDir = setup.spoolDir ?? join(stateDir, 'spool')
  await mkdir(spoolDir, { recursive: true })
  const cli = (offer: Offer): Prepared => ({
    process: scripted(turn, offer),
    cwd: offer.spec.cwd ?? '/work',
    provider: 'local',
    dispose: () => Promise.resolve(),
  })
  const agent = new Agent({
    clock: systemClock,
    spoolDir,
    slots,
    labels: setup.labels ?? {},
    provider: 'local',
    cliVersion: '0.0.0-test',
    os: 'test',
    prepare: prepare ?? ((offer) => Promise.resolve(cli(offer))),
    sweep: () => Promise.resolve(0),
    diskFree: () => 1e9,
    load: () => 0,
    log: () => undefined,
  })
  await agent.recover()
  const link = new Link(identity, agent, { log: () => undefined })
  const running = link.run()
  let stopped: Promise<void> | undefined
  return {
    agent,
    identity,
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
}
