/**
 * A router with a runner that answers at once, and the callers of a fuzz run. It sends what was made and reads what comes
 * back: all of it, or the beginning of a stream.
 */
import { CompatSettings } from '../../shared/compat-settings.ts'
import { SCOPES } from '../../router/core/scopes.ts'
import { mint } from '../../router/guard/tokens.ts'
import { admins, startFleet, type Fleet } from '../kit/fleet.ts'
import type { Host } from '../kit/host.ts'
import { print } from '../kit/turns.ts'
import { parse, type Caller, type Described, type Operation, type PathValue, type Request } from './requests.ts'

/** Longer than any answer may take. */
export const HANG_MS = 5_000
const MAX_URL = 8_000
/** A larger body is refused by its length, and the connection closed: the client may see that before it has sent all of it. */
const MAX_BODY = 1_000_000
/** An admin may revoke his own tokens, or leave his tenant no requests: another tenant takes over after so many. */
const REQUESTS_OF_A_TENANT = 250
const RESULT = '{"type":"result","subtype":"success","is_error":false,"result":"ok","session_id":"s","total_cost_usd":0}'

/**
 * What an operator may not do here: it would end the fuzz for everybody, machines of all tenants included, and is meant to.
 * Providers too: where those of a tenant are all disabled, its runs are refused with 502.
 */
const NOT_AS_OPERATOR = /^(?!GET|HEAD)\w+ \/admin\/v1\/(?:keys|config|compat|tenants|tokens|limits|issuers|retention|runners|providers|routing)/
/** Without a slot these wait as long as they are told to, which is no hang: here they are told not to. */
const WAITS = new Set(['/v1/runs', '/v1/batches'])

export interface Answer {
  readonly status: number
  readonly type: string
  readonly text: string
  readonly headers: Headers
  readonly ms: number
}

export interface World {
  readonly document: Described
  /** Throws when there is no answer in time. */
  send(request: Request): Promise<Answer>
  close(): Promise<void>
}

export async function openWorld(host: Host): Promise<World> {
  const fleet = await startFleet(host, {})
  const app = await fleet.as('fuzzed')
  // Who has no machine waits for one, and that is no hang.
  const strangers = await fleet.as('strangers')
  for (const tenant of [app, strangers, fleet]) await tenant.runner({ turn: print(() => ['{"type":"system","subtype":"init"}', RESULT]), slots: 64 })
  await neverWait(fleet)
  const document = parse(await (await fleet.call('/openapi.json')).json())
  const callers = callersOf(fleet)
  const seen = new Map<string, string[]>()
  let sent = 0
  let mayBeClosed = false

  return {
    document,
    async send(request) {
      const tenant = `admins-${Math.floor(sent / REQUESTS_OF_A_TENANT)}`
      if (sent++ % REQUESTS_OF_A_TENANT === 0) await admins(fleet, 'tenants', { id: tenant })
      const { operation, method, caller } = request
      const barred = caller === 'operator' && NOT_AS_OPERATOR.test(`${method} ${operation.path}`)
      const headers = new Headers(request.headers)
      const token = await callers(barred ? 'admin' : caller, tenant)
      if (token !== undefined) headers.set('authorization', `Bearer ${token}`)
      const body = method === 'GET' || method === 'HEAD' ? undefined : bodyOf(request)
      if (body !== undefined && !headers.has('content-type')) headers.set('content-type', 'application/json')
      const url = fleet.url + pathOf(request, seen)
      const isLarge = (body?.length ?? 0) > MAX_BODY
      const answer = await ask(url, { method, headers, ...(body === undefined ? {} : { body }) }, mayBeClosed || isLarge)
      mayBeClosed = answer.status === 413
      if (answer.status < 300) note(seen, operation, answer)
      return answer
    },
    async close() {
      await fleet.close()
    },
  }
}

async function neverWait(fleet: Fleet): Promise<void> {
  const families = Object.keys(CompatSettings.shape).map((family) => [family, { queue_timeout_s: 0 }])
  const body = JSON.stringify(Object.fromEntries(families))
  const { status } = await fleet.call('/admin/v1/compat', { method: 'PUT', token: fleet.adminToken, body })
  if (status !== 200) throw new Error(`the settings of the dialects cannot be set: ${status}`)
}

function callersOf({ host }: Fleet) {
  const tokenOf = async (kind: 'app' | 'admin', tenant: string, scopes: readonly string[]) => {
    const who = { kind, tenant, subject: 'fuzz', jti: crypto.randomUUID(), scopes: SCOPES.filter((scope) => scopes.includes(scope)), ttlS: 600 }
    return (await mint(host.keys, who, Date.now())).token
  }
  const app = SCOPES.filter((scope) => scope !== 'admin')
  return async (caller: Caller, tenant: string): Promise<string | undefined> => {
    switch (caller) {
      case 'right':
        return tokenOf('app', 'fuzzed', app)
      case 'admin':
        return tokenOf('admin', tenant, SCOPES)
      case 'operator':
        return tokenOf('admin', 'default', SCOPES)
      case 'without scope':
        return tokenOf('app', 'fuzzed', [])
      case 'foreign':
        return tokenOf('app', 'strangers', app)
      case 'garbage':
        return 'eyJhbGciOiJub25lIn0.e30.'
      case 'nobody':
        return undefined
    }
  }
}

function bodyOf({ body, operation }: Request): string | undefined {
  if (body === undefined) return undefined
  if ('text' in body) return body.text
  const { json } = body
  const isObject = typeof json === 'object' && json !== null && !Array.isArray(json)
  if (!isObject || !WAITS.has(operation.path)) return JSON.stringify(json)
  if (operation.path === '/v1/runs') return JSON.stringify({ ...json, ...notWaiting(json) })
  const { items } = json as { items?: unknown }
  return JSON.stringify(Array.isArray(items) ? { ...json, items: items.map((run: unknown) => (typeof run === 'object' && run !== null ? { ...run, ...notWaiting(run) } : run)) } : json)
}

/** In place of a time that fits only: another one is there to be refused. */
function notWaiting(run: object): object {
  const { queue_timeout_s: given } = run as { queue_timeout_s?: unknown }
  return given === undefined || Number.isInteger(given) ? { queue_timeout_s: 0 } : {}
}

/** The collection that an id of the path belongs to: what is in front of it. */
const collectionOf = (path: string, name: string): string => path.slice(0, path.indexOf(`/{${name}}`)).split('/').at(-1) ?? ''

function pathOf({ operation, path, query }: Request, seen: ReadonlyMap<string, readonly string[]>): string {
  const filled = Object.entries(path).reduce((all, [name, value]) => all.replace(`{${name}}`, textOf(value, seen.get(collectionOf(operation.path, name)) ?? [])), operation.path)
  const parameters = query.map(([name, value]) => `${encoded(name)}=${encoded(value)}`).join('&')
  // Longer than that a server refuses its head (431), before there is a router.
  return (parameters === '' ? filled : `${filled}?${parameters}`).slice(0, MAX_URL).replace(/%[0-9A-F]?$/, '')
}

function textOf(value: PathValue, known: readonly string[]): string {
  if ('text' in value) return encoded(value.text).slice(0, 8_000) || '%20'
  return encoded(known[value.seen % Math.max(1, known.length)] ?? `unknown-${value.seen}`)
}

/** A lone surrogate has no bytes; a dot alone would be taken for a folder by the client. */
const encoded = (text: string): string => encodeURIComponent(new TextDecoder().decode(new TextEncoder().encode(text))).replace(/^\.+$/, (dots) => '%2E'.repeat(dots.length))

async function ask(url: string, init: RequestInit, mayBeClosed: boolean): Promise<Answer> {
  const began = performance.now()
  const patience = AbortSignal.timeout(HANG_MS)
  const response = await fetched(url, { ...init, redirect: 'manual', signal: patience }, mayBeClosed)
  const type = response.headers.get('content-type')?.split(';')[0]?.trim() ?? ''
  const text = type === 'text/event-stream' ? await beginning(response) : await response.text()
  return { status: response.status, type, text, headers: response.headers, ms: performance.now() - began }
}

/** A connection that is dropped without a reason fails the fuzz: after a body that was too large there is one. */
async function fetched(url: string, init: RequestInit, mayBeClosed: boolean): Promise<Response> {
  try {
    return await fetch(url, init)
  } catch (error) {
    if (!mayBeClosed || !(error instanceof TypeError) || init.signal?.aborted) throw error
    return fetch(url, init)
  }
}

async function beginning(response: Response): Promise<string> {
  const reader = response.body?.getReader()
  const first = await reader?.read()
  await reader?.cancel()
  return new TextDecoder().decode(first?.value)
}

const ID_FIELDS = ['id', 'run_id', 'session_id', 'task_id', 'process_id', 'jti', 'name', 'kid']

function note(seen: Map<string, string[]>, { path }: Operation, { type, text }: Answer): void {
  if (type !== 'application/json' || text === '') return
  const parsed = JSON.parse(text) as Record<string, unknown>
  const lists = Object.values(parsed).filter((value): value is unknown[] => Array.isArray(value))
  const collection = path.split('/').findLast((part) => part !== '' && !part.startsWith('{')) ?? ''
  for (const thing of [parsed, ...Object.values(parsed), ...lists.flat()]) {
    if (typeof thing !== 'object' || thing === null) continue
    for (const field of ID_FIELDS) {
      const id = (thing as Record<string, unknown>)[field]
      if (typeof id !== 'string' || id === '') continue
      const of = field === 'session_id' ? 'sessions' : field === 'process_id' ? 'chat' : field === 'task_id' ? 'tasks' : field === 'run_id' ? 'runs' : collection
      seen.set(of, [id, ...(seen.get(of) ?? [])].slice(0, 50))
    }
  }
}
