/**
 * What belongs to another tenant is not there: every operation of the OpenAPI document, with the real ids of somebody else.
 *
 * An operation with a parameter or body that this file does not know fails the test, so that nobody adds one and forgets.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { admins, startFleet, type Fleet, type Json } from '../kit/fleet.ts'
import type { Host } from '../kit/host.ts'
import { gate } from '../kit/turns.ts'
import { until } from '../kit/wait.ts'
import { BODIES, MAKES, MISSING, OF_THE_ROUTER, WANTS_MORE } from './isolation-known.ts'
import { described, type Operation } from './isolation-operations.ts'
import { settledWebhook, type SettledWebhook } from './isolation-webhook.ts'

const PRIVATE = {
  prompt: 'private-prompt',
  metadata: 'private-metadata',
  machine: 'private-machine',
  pool: 'private-pool',
  url: 'https://private.example',
  subject: 'private-subject',
  hook: 'private-hook',
  content: 'private-content',
}
/** Its end is nothing that an id could hold. */
const KEY = 'sk-private-zyxwvuts'

let fleet: Fleet
let theirs: Fleet
let hook: SettledWebhook
let ours: Fleet
/** What they have, by the collection that it is in. */
let ids: Record<string, string>
let operations: Operation[]

async function setUp(host: Host): Promise<void> {
  fleet = await startFleet(host, {})
  theirs = await fleet.as('theirs')
  ours = await fleet.as('ours')
  const made = async (path: string, body: object, by = theirs) => admins<Json>(by, path, body)
  const wish = { id: 'private-provider', base_url: PRIVATE.url, api_key: KEY, pools: [PRIVATE.pool] }
  const provider = await made('providers', wish)
  const cli = gate()
  const runner = await theirs.runner({ turn: cli.turn, name: PRIVATE.machine, pool: PRIVATE.pool })
  const run = await theirs.start({ prompt: PRIVATE.prompt, pool: PRIVATE.pool, metadata: { note: PRIVATE.metadata } })
  await cli.running(PRIVATE.prompt)
  await theirs.until(run.id, 'running')
  // On Workers the list hears of it a moment later than the run itself; from then on it stays as it is.
  await until('the list to know who pays', async () => (await theirs.list()).some((its) => its.id === run.id && its['provider'] !== null))
  const { jti } = await made('tokens', { kind: 'app', subject: PRIVATE.subject, family: 'private-family' })
  const enrolment = await made('enrolment-tokens', { pool: PRIVATE.pool })
  const credential = await made('credentials', { kind: 'key', secret: KEY, subject: PRIVATE.subject })
  const mapping = { require: [{ claim: 'org', is: 'private-org' }], scopes: ['runs:read'] }
  const idp = { id: 'private-issuer', url: PRIVATE.url, audience: 'private', tenant: 'theirs', mapping }
  const issuer = await made('issuers', idp, fleet)
  const files = { agents: 'private-agent', skills: 'private-skill', rules: 'private-rule' }
  for (const path of [...Object.entries(files).map((file) => file.join('/')), 'claude-md']) {
    const init = { method: 'PUT', token: theirs.adminToken, body: JSON.stringify({ content: PRIVATE.content }) }
    expect((await theirs.call(`/config/${path}`, init)).status).toBe(201)
  }
  const batch = await theirs.call('/v1/batches', { method: 'POST', body: JSON.stringify({ items: [{ prompt: 'x', session_id: crypto.randomUUID() }] }) })
  const task = await theirs.call('/api/async/messages', { method: 'POST', body: JSON.stringify({ prompt: PRIVATE.prompt }) })
  hook = await settledWebhook(fleet, theirs, PRIVATE.hook)
  const [key] = fleet.host.keys.jwks.keys
  ids = {
    runs: run.id,
    '{process_id}': run.id.replace(/^run_(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-'),
    batches: ((await batch.json()) as Json)['id'] as string,
    sessions: run.session_id,
    bindings: run.session_id,
    runners: runner.id,
    providers: String(provider['id']),
    tokens: String(jti),
    credentials: String(credential['id']),
    issuers: String(issuer['id']),
    'enrolment-tokens': String(enrolment['id']),
    ...hook.ids,
    'load-balance': String(provider['id']),
    tasks: ((await task.json()) as Json)['task_id'] as string,
    projects: '/work',
    config: `rules.${files.rules}`,
    tenants: 'theirs',
    keys: key!.kid,
    ...files,
  }
  operations = await described(fleet)
}

/** Fields of a body that name something that belongs to somebody, and what of theirs goes there. */
const FIELDS: Record<string, () => string> = { tenant: () => 'theirs', session_id: () => ids['sessions']!, resume: () => ids['sessions']! }
/** Whose answer is 200 before it is known whether there is such a session. */
const SAID_IN_STREAM = 'post /api/claude'
const NAMES_SOMETHING = /(?:^|_)(?:ids?|jti|tenant|runner|provider|session|run)$/
/** What only looks like it: the name that a new thing gets, and a flag. */
const OWN_FIELDS = new Set(['id', 'fork_session'])
const QUERIES: Record<string, (operation: Operation) => string> = {
  tenant: () => 'theirs',
  session_id: () => ids['sessions']!,
  provider: () => ids['providers']!,
  webhook: () => ids['webhooks']!,
  run: () => ids['runs']!,
  state: () => 'delivered',
  pool: () => PRIVATE.pool,
  family: () => 'private-family',
  target: () => `provider/${ids['providers']!}`,
  // Cursors: just before what they have.
  after: ({ path }) => before(ids[collection(path)] ?? '0'),
  before: ({ path }) =>
    path.startsWith('/v1/sessions') ? `9${'0'.repeat(12)}.${ids['sessions']!}` : `${path === '/v1/batches' ? 'bat' : 'run'}_${'f'.repeat(32)}`,
  action: () => 'provider.create',
  since: () => '2020-01-01T00:00:00Z',
  status: ({ path }) => (/\/sessions/.test(path) ? 'active' : path.startsWith('/api/') ? 'processing' : 'running'),
  limit: () => '100',
  offset: () => '0',
  from: () => '2020-01-01',
  to: () => '2100-01-01',
  group_by: () => 'session',
  order: ({ path }) => (/^\/(?:v1\/sessions|api\/)/.test(path) ? 'asc' : 'runs'),
  cwd: () => '/work',
  q: () => PRIVATE.prompt,
  kind: () => 'rules',
  running: () => 'cancel',
  project: () => '/work',
  origin: () => 'native',
  project_path: () => '/work',
  sort_by: () => 'total_cost',
  start: () => '2020-01-01',
  end: () => '2100-01-01',
  stream_id: () => `stream_${ids['runs']!.slice(4, 20)}`,
  prompt: () => 'x',
  system_prompt: () => 'x',
  permission_mode: () => 'plan',
  before_id: () => `msg_${ids['runs']!.slice(4)}_u`,
  after_id: () => `msg_${ids['runs']!.slice(4)}_u`,
}

const collection = (path: string): string =>
  path.split('/').find((part, i, all) => i > 1 && all[i - 1] === 'v1') ?? path.split('/')[2] ?? ''
const before = (id: string): string => id.slice(0, -1) || '0'

interface Ask {
  readonly token: string
  readonly path: string
  readonly body?: object
}

async function ask(operation: Operation, { token, path, body = BODIES[operation.name] }: Ask): Promise<{ status: number; text: string }> {
  const { method, inBody } = operation
  const sends = inBody !== undefined && !['get', 'delete'].includes(method)
  const response = await fleet.call(withNeeded(operation, path), {
    method: method.toUpperCase(),
    token,
    ...(sends ? { body: JSON.stringify(body ?? {}) } : {}),
  })
  return { status: response.status, text: await response.text() }
}

function withNeeded(operation: Operation, path: string): string {
  const missing = operation.needed.filter((query) => !path.includes(`?${query}=`)).map((query) => `${query}=${encodeURIComponent(QUERIES[query]!(operation))}`)
  return missing.length === 0 ? path : `${path}${path.includes('?') ? '&' : '?'}${missing.join('&')}`
}

/** What of theirs is in an answer, but for what we asked for by name. */
function leaks(text: string, said: string): string[] {
  const all = [
    ...Object.values(PRIVATE),
    KEY,
    KEY.slice(-4),
    'private-family',
    'private-org',
    ...Object.entries(ids).flatMap(([of, id]) => (of === 'keys' ? [] : [id])),
  ]
  return all.filter((thing) => text.includes(thing) && !said.includes(thing))
}

const isAdmin = ({ path }: Operation) => path.startsWith('/admin/')
const callers = () => [
  { who: 'app', token: ours.token },
  { who: 'admin', token: ours.adminToken },
]
/** An app is told that it is an app; an admin, that there is no such thing. */
const missing = (operation: Operation, who: string) =>
  ((isAdmin(operation) || WANTS_MORE.test(operation.name)) && who === 'app') || OF_THE_ROUTER.has(operation.path) ? 403 : (MISSING[operation.name] ?? 404)

/** All that they can see of what they have. */
async function snapshot(): Promise<string> {
  const lists = operations.filter(
    ({ method, inPath, open, path }) => method === 'get' && inPath.length === 0 && !open && !OF_THE_ROUTER.has(path),
  )
  const texts = await Promise.all(
    lists.map(async (operation) => (await ask(operation, { token: theirs.adminToken, path: operation.path })).text),
  )
  return texts.join('\n')
}

export function isolation(host: Host): void {
  describe('what belongs to another tenant', () => {
    beforeAll(() => setUp(host))
    afterAll(() => Promise.all([fleet.close(), hook.close()]))

    it('is what this test believes it is: the document names no parameter and no body that it does not know', () => {
      const unknown = operations.flatMap(({ name, path, open, inPath, inQuery, inBody }) => [
        ...(inPath.length > 1 || (inPath.length === 1 && !(collection(path) in ids))
          ? [`${name}: an id of ${collection(path)}`]
          : []),
        ...inQuery.filter((query) => !(query in QUERIES)).map((query) => `${name}: ?${query}`),
        ...(inBody && !open && !(name in BODIES) ? [`${name}: its body`] : []),
        ...(inBody ?? [])
          .filter((field) => NAMES_SOMETHING.test(field) && !(field in FIELDS) && !OWN_FIELDS.has(field) && !open)
          .map((field) => `${name}: ${field}`),
      ])
      expect(unknown).toEqual([])
      expect(operations.length).toBeGreaterThan(40)
      expect(Object.keys(BODIES).filter((name) => !operations.some((o) => o.name === name))).toEqual([])
    })

    it('has an id that is a 404 on every operation that takes one', async () => {
      const seen = await snapshot()
      for (const thing of [
        PRIVATE.metadata,
        PRIVATE.machine,
        PRIVATE.url,
        PRIVATE.subject,
        ids['runs']!,
        ids['tokens']!,
        ids['enrolment-tokens']!,
        `"session_id":"${ids['bindings']!}","provider":"private-provider"`,
      ])
        expect(seen).toContain(thing)
      for (const operation of operations.filter(({ name, inPath }) => inPath.length > 0 && !MAKES.test(name))) {
        const id = ids[collection(operation.path)]!
        const path = operation.path.replace(/\{[^}]+\}/, encodeURIComponent(id))
        for (const { who, token } of callers()) {
          const { status, text } = await ask(operation, { token, path })
          expect([operation.name, who, status, leaks(text, id)]).toEqual([operation.name, who, missing(operation, who), []])
        }
      }
      for (const operation of operations.filter(({ inPath, inQuery }) => inPath.length > 0 && inQuery.includes('tenant'))) {
        const id = ids[collection(operation.path)]!
        const path = `${operation.path.replace(/\{[^}]+\}/, encodeURIComponent(id))}?tenant=theirs`
        const { status, text } = await ask(operation, { token: ours.adminToken, path })
        expect([operation.name, status, leaks(text, `${id} theirs`)]).toEqual([operation.name, 403, []])
      }
      expect(await snapshot()).toBe(seen)
    })

    it('cannot be told by its answer from what is not there', async () => {
      for (const operation of operations.filter(({ name, inPath, path }) => inPath.length > 0 && !OF_THE_ROUTER.has(path) && !MAKES.test(name))) {
        const theirId = ids[collection(operation.path)]!
        const noId = theirId.replace(/.(?=.$)/, (c) => (c === '0' ? '1' : '0'))
        const [foreign, unknown] = await Promise.all(
          [theirId, noId].map(async (id) => {
            const path = operation.path.replace(/\{[^}]+\}/, encodeURIComponent(id))
            const { text } = await ask(operation, { token: ours.adminToken, path })
            return { ...(JSON.parse(text.replaceAll(id, 'ID').replace(/"requestId":"[^"]*"/, '"requestId":""')) as Json), request_id: '' }
          }),
        )
        expect(foreign, operation.name).toEqual(unknown)
      }
    })

    it('stays as it is when another tenant makes something of the same name', async () => {
      const seen = await snapshot()
      // A third one where it is of their name: its audit names it from then on.
      const third = await fleet.as('third')
      for (const operation of operations.filter(({ name }) => MAKES.test(name))) {
        const path = operation.path.replace(/\{[^}]+\}/, ids[collection(operation.path)] ?? '')
        const { adminToken: token } = operation.inPath.length > 0 ? third : ours
        expect((await ask(operation, { token, path })).status, operation.name).toBe(201)
        if (operation.inPath.length > 0) await fleet.call(path, { method: 'DELETE', token })
      }
      expect(await snapshot()).toBe(seen)
    })

    it('is in no list, whatever is asked of it', async () => {
      for (const operation of operations.filter(({ method, inPath, open }) => method === 'get' && inPath.length === 0 && !open)) {
        for (const query of [undefined, ...operation.inQuery]) {
          const value = query === undefined ? '' : QUERIES[query]!(operation)
          const path = query === undefined ? operation.path : `${operation.path}?${query}=${encodeURIComponent(value)}`
          for (const { who, token } of callers()) {
            const { status, text } = await ask(operation, { token, path })
            const refused = (isAdmin(operation) && who === 'app') || query === 'tenant' || OF_THE_ROUTER.has(operation.path)
            expect([path, who, status, leaks(text, value)]).toEqual([path, who, refused ? 403 : 200, []])
          }
        }
      }
    })

    it('is not reached by naming it in a body', async () => {
      const seen = await snapshot()
      for (const operation of operations.filter(({ inBody, open }) => inBody !== undefined && !open)) {
        for (const field of (operation.inBody ?? []).filter((name) => name in FIELDS)) {
          const body = { ...BODIES[operation.name], [field]: FIELDS[field]!() }
          const { status, text } = await ask(operation, { token: ours.adminToken, path: operation.path, body })
          expect([operation.name, field, status, leaks(text, JSON.stringify(body))]).toEqual([
            operation.name,
            field,
            field === 'tenant' ? 403 : operation.name === SAID_IN_STREAM ? 200 : 404,
            [],
          ])
        }
      }
      expect(await snapshot()).toBe(seen)
    })

    it('goes on as if nobody had asked', async () => {
      expect(await theirs.get(ids['runs']!)).toMatchObject({ status: 'running', metadata: { note: PRIVATE.metadata } })
      expect(await theirs.runners()).toMatchObject([{ status: 'online' }])
    })
  })
}
