/** A router on either host and an enrolled runner as processes of the built product, paid for by a scripted model. */
import { join } from 'node:path'
import type { Model } from '../model/scripted.ts'
import { CLAUDE, EDGE, MAIN, processesWith, type Command, type Machine } from './processes.ts'
import { readSse } from './sse.ts'
import { until } from './wait.ts'

type Json = Record<string, unknown>

/** How a host is started as a command. */
const COMMANDS = { node: { main: MAIN, args: ['router'] }, workers: { main: EDGE, args: [] } } as const

export interface EnlistOptions {
  readonly host?: keyof typeof COMMANDS
  /** Further arguments of the router. */
  readonly router?: readonly string[]
}

export interface Enlisted {
  readonly url: string
  readonly token: string
  readonly runnerDir: string
  /** Where the runner looks for `runner.toml`. */
  readonly policyFile: string
  /** `kill -9` of the process that serves, and a start on the same storage and port. Resolves when it is ready. */
  crashRouter(): Promise<void>
  /** The process that serves: for the Workers host it is workerd. */
  servingPid(): Promise<number>
  /** `runyard runner start` with these further arguments. */
  startRunner(args: readonly string[], env?: Record<string, string>): Command
  /** Until the router has it; fails when the process ends before. */
  online(runner: Command): Promise<void>
  call(path: string, init?: RequestInit): Promise<Response>
  /** The same as an admin. */
  admin(path: string, init?: RequestInit): Promise<Response>
  /** Starts a run and leaves its stream to the caller. */
  start(body: Json): Promise<Response>
  /** Runs to the end; resolves to its `done` event. */
  run(body: Json): Promise<Json>
  /** The states of the router's runners. */
  states(): Promise<string[]>
}

export async function enlist(machine: Machine, model: Model, { host = 'node', router: more = [] }: EnlistOptions = {}): Promise<Enlisted> {
  const { main, args } = COMMANDS[host]
  const startRouter = async (port: string) => {
    const command = machine.start([...args, '--json', `--port=${port}`, `--data-dir=${machine.dataDir}`, ...more], {}, main)
    return { command, ready: await command.event('ready') }
  }
  let router = await startRouter('0')
  const { url, token, admin_token: adminToken } = router.ready as { url: string; token: string; admin_token: string }
  const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' }
  const made = await fetch(`${url}/admin/v1/enrolment-tokens`, { method: 'POST', headers: { ...headers, authorization: `Bearer ${adminToken}` }, body: '{}' })
  const { token: once } = (await made.json()) as { token: string }
  const runnerDir = join(machine.home, 'runner-data')
  const enrolled = await machine.runyard(['runner', 'enroll', `--url=${url}`, `--token=${once}`, `--data-dir=${runnerDir}`, '--json'])
  if (enrolled.code !== 0) throw new Error(enrolled.stderr)
  const login = { ANTHROPIC_BASE_URL: model.url, ANTHROPIC_API_KEY: 'sk-test-not-a-key-000' }
  const enlisted: Enlisted = {
    url,
    token,
    runnerDir,
    policyFile: join(runnerDir, 'runner', 'runner.toml'),
    async servingPid() {
      if (host === 'node') return router.command.child.pid!
      const found = await processesWith(`${machine.dataDir}/edge/workerd/config.capnp`)
      return Number.parseInt(found.find((line) => /^\d+ \S*workerd /.test(line)) ?? '', 10)
    },
    async crashRouter() {
      process.kill(await enlisted.servingPid(), 'SIGKILL')
      await router.command.ended
      router = await startRouter(new URL(url).port)
    },
    startRunner: (flags, env = {}) => machine.start(['runner', 'start', '--json', `--data-dir=${runnerDir}`, `--claude=${CLAUDE}`, ...flags], { ...login, ...env }),
    async online(runner) {
      await runner.event('ready')
      await until('the runner to be ready', async () => (await fetch(`${url}/readyz`)).ok)
    },
    call: (path, init = {}) => fetch(url + path, { ...init, headers: { ...headers, ...(init.headers as Record<string, string>) } }),
    admin: (path, init = {}) => fetch(url + path, { ...init, headers: { ...headers, authorization: `Bearer ${adminToken}` } }),
    start: (body) => enlisted.call('/v1/runs', { method: 'POST', body: JSON.stringify(body), headers: { accept: 'text/event-stream' } }),
    async run(body) {
      const { events } = await readSse(await enlisted.start(body))
      return JSON.parse(events.at(-1)!.data) as Json
    },
    async states() {
      const { data } = (await (await enlisted.call('/v1/runners')).json()) as { data: { status: string }[] }
      return data.map(({ status }) => status)
    },
  }
  return enlisted
}
