/**
 * The real app on a real database file, as a host that has no runner connected. The clock is the test's.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import type { Server } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { OpenAPIHono } from '@hono/zod-openapi'
import { Fault } from '../../shared/faults.ts'
import { createApp } from '../../router/app.ts'
import { identityMemory, identityOf } from '../../router/guard/identity.ts'
import { generateSigningJwk, importKeys, type SigningJwk } from '../../router/guard/keys.ts'
import { newKeyRing, openVault } from '../../router/guard/vault.ts'
import { catalogMemory, catalogOf } from '../../router/tenancy/catalog.ts'
import { mintToken, type TokenWish } from '../../router/guard/mint.ts'
import { openDatabase, type Database } from '../../router/node/database.ts'
import { storeRecords } from '../../router/store/records.ts'
import type { AppEnv, Deps, Log, Platform, RouterSettings, RunnerHub, WaitingLine } from '../../router/ports.ts'

export interface IdentityRouter {
  readonly app: OpenAPIHono<AppEnv>
  readonly deps: Deps
  readonly database: Database
  readonly jwk: SigningJwk
  readonly clock: { now: number }
  mint(wish?: Partial<TokenWish>): Promise<{ token: string; jti: string }>
  call(
    path: string,
    init?: { method?: string; token?: string; body?: unknown; headers?: Record<string, string> },
  ): Promise<Answer>
  /** Another router on the same database and keys, with a memory of its own. */
  replica(): Pick<IdentityRouter, 'deps' | 'call'>
  /** Until what was left to the background is done. */
  settled(): Promise<void>
  close(): Promise<void>
}
export interface Answer {
  status: number
  headers: Headers
  body: Record<string, unknown>
}

const noRunners: RunnerHub = {
  connect: (c, who) => Promise.resolve(c.json(who)),
  follow: () => {
    throw new Fault('run_not_found')
  },
  events: () => {
    throw new Fault('run_not_found')
  },
  cancel: () => Promise.resolve(),
  attend: () => () => undefined,
  online: () => Promise.resolve([]),
  drain: () => Promise.resolve(),
  revoke: () => Promise.resolve(),
  configChanged: () => Promise.resolve(),
  load: () => Promise.resolve({ runners: 0, slots: 0, busy: 0, cliVersion: null }),
}

const noLine: WaitingLine = {
  submit: () => Promise.resolve('taken'),
  outcome: () => Promise.resolve('unknown'),
  position: () => Promise.resolve(undefined),
  reprioritise: () => Promise.resolve(),
  cancel: () => Promise.resolve(false),
}

export async function identityRouter(settings: Partial<RouterSettings> = {}): Promise<IdentityRouter> {
  const dir = await mkdtemp(join(tmpdir(), 'runyard-identity-'))
  const database = await openDatabase(join(dir, 'router.db'))
  const jwk = await generateSigningJwk()
  const clock = { now: 1_800_000_000_000 }
  const background: Promise<unknown>[] = []
  let ids = 0
  const platform: Platform = {
    now: () => clock.now,
    id: () => (++ids).toString(16).padStart(32, '0'),
    random: Math.random,
    background: (work) => void background.push(work),
    vitals: () => ({ uptimeS: 0, memory: { rss: 0, heapTotal: 0, heapUsed: 0, external: 0, arrayBuffers: 0 } }),
  }
  const log: Log = { info: () => undefined, warn: () => undefined, error: () => undefined }
  const vault = await openVault(newKeyRing('test'))
  const root = await importKeys(jwk, 'https://router.test')
  const now = () => clock.now
  const depsWithMemory = (): Deps => ({
    store: database,
    hub: noRunners,
    line: noLine,
    records: storeRecords(database),
    platform,
    ...identityOf({ db: database.db, vault, root, platform, log, memory: identityMemory(), now }),
    vault,
    catalog: catalogOf(database.db, catalogMemory(), now),
    limiter: { take: (_tenant, [limit]) => Promise.resolve({ ok: true, remaining: limit.rate.burst, resetMs: 0, limit }) },
    settings: { publicUrl: undefined, allowedHosts: [], corsOrigins: [], timeoutS: 60, ...settings },
    log,
  })
  const deps = depsWithMemory()
  const app = createApp(() => deps)
  return {
    app,
    deps,
    database,
    jwk,
    clock,
    mint: (wish) => mintToken(deps, { kind: 'app', tenant: 'acme', subject: 'test', ...wish }),
    call: callsOf(app),
    replica() {
      const its = depsWithMemory()
      return { deps: its, call: callsOf(createApp(() => its)) }
    },
    settled: async () => void (await Promise.all(background)),
    async close() {
      await Promise.all(background)
      await database.close()
      await rm(dir, { recursive: true, force: true })
    },
  }
}

function callsOf(app: OpenAPIHono<AppEnv>): IdentityRouter['call'] {
  return async (path, { method, token, body, headers } = {}) => {
    const response = await app.request(`http://localhost:8787${path}`, {
      method: method ?? (body === undefined ? 'GET' : 'POST'),
      headers: {
        ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...headers,
      },
      ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
    })
    const text = await response.text()
    const isJson = /[/+]json\b/.test(response.headers.get('content-type') ?? '')
    const json: unknown = isJson ? JSON.parse(text) : {}
    return { status: response.status, headers: response.headers, body: { ...Object(json) } }
  }
}

/** Starts `server` on a free port and returns the port. */
export async function listenOnLoopback(server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('the server has no port')
  return address.port
}

/** A route of each kind, to see which tokens open it. */
export const APP_ROUTE = '/v1/runners'
export const ADMIN_ROUTE = '/admin/v1/enrolment-tokens'
export const RUNNER_ROUTE = '/v1/runners/connect'
export const UPGRADE = { upgrade: 'websocket', connection: 'Upgrade', 'sec-websocket-protocol': 'runyard.v1' }
