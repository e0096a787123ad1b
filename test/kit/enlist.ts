/** A router and an enrolled runner as processes of the built product, paid for by a scripted model. */
import { join } from 'node:path'
import type { Model } from '../model/scripted.ts'
import { CLAUDE, type Command, type Machine } from './processes.ts'
import { readSse } from './sse.ts'
import { until } from './wait.ts'

type Json = Record<string, unknown>

export interface Enlisted {
  readonly url: string
  readonly runnerDir: string
  /** Where the runner looks for `runner.toml`. */
  readonly policyFile: string
  /** `runyard runner start` with these further arguments. */
  startRunner(args: readonly string[], env?: Record<string, string>): Command
  /** Until the router has it; fails when the process ends before. */
  online(runner: Command): Promise<void>
  call(path: string, init?: RequestInit): Promise<Response>
  /** Starts a run and leaves its stream to the caller. */
  start(body: Json): Promise<Response>
  /** Runs to the end; resolves to its `done` event. */
  run(body: Json): Promise<Json>
  /** The states of the router's runners. */
  states(): Promise<string[]>
}

export async function enlist(machine: Machine, model: Model): Promise<Enlisted> {
  const router = machine.start(['router', '--json', '--port=0', `--data-dir=${machine.dataDir}`])
  const ready = await router.event('ready')
  const url = ready['url']!
  const headers = { authorization: `Bearer ${ready['token']}`, 'content-type': 'application/json' }
  const made = await fetch(`${url}/admin/v1/enrolment-tokens`, { method: 'POST', headers: { ...headers, authorization: `Bearer ${ready['admin_token']}` }, body: '{}' })
  const { token } = (await made.json()) as { token: string }
  const runnerDir = join(machine.home, 'runner-data')
  const enrolled = await machine.runyard(['runner', 'enroll', `--url=${url}`, `--token=${token}`, `--data-dir=${runnerDir}`, '--json'])
  if (enrolled.code !== 0) throw new Error(enrolled.stderr)
  const login = { ANTHROPIC_BASE_URL: model.url, ANTHROPIC_API_KEY: 'sk-test-not-a-key-000' }
  const enlisted: Enlisted = {
    url,
    runnerDir,
    policyFile: join(runnerDir, 'runner', 'runner.toml'),
    startRunner: (args, env = {}) => machine.start(['runner', 'start', '--json', `--data-dir=${runnerDir}`, `--claude=${CLAUDE}`, ...args], { ...login, ...env }),
    async online(runner) {
      await runner.event('ready')
      await until('the runner to be ready', async () => (await fetch(`${url}/readyz`)).ok)
    },
    call: (path, init = {}) => fetch(url + path, { ...init, headers: { ...headers, ...(init.headers as Record<string, string>) } }),
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
