/** `/v1/config`: agents, skills, rules and the CLAUDE.md that every runner of a pool has for the CLI. */
import { createRoute, z } from '@hono/zod-openapi'
import { CONFIG_KINDS, MAX_CONFIG_FILES } from '../../shared/config-files.ts'
import { Fault } from '../../shared/faults.ts'
import { deleteConfigFile, listConfigFiles, readConfigFile, replaceConfigFile } from '../engine/config-files.ts'
import { requireScope } from '../guard/authenticate.ts'
import { poolOf } from '../guard/narrow.ts'
import { newRouter } from '../guard/router.ts'
import { configVersion } from '../store/config-files.ts'
import { listRunners } from '../store/runners.ts'
import { ConfigSet, Content, File, FileId, idOf, IfMatch, ListQuery, PoolQuery, refOf, Written } from './config-schemas.ts'
import { notFound, problem, problems } from './run-schemas.ts'

const json = <S extends z.ZodType>(schema: S) => ({ 'application/json': { schema } })
const params = z.object({ id: FileId })
const headers = z.object({ etag: z.string().openapi({ description: 'The version, in quotes.' }) })
const changed = { 409: problem('It was changed meanwhile, or there are as many files as can be.') }
const tags = ['config']

const list = createRoute({
  method: 'get',
  path: '/v1/config',
  tags,
  summary: 'The config files of a pool, and which runner has them',
  middleware: [requireScope('config:read')] as const,
  request: { query: ListQuery },
  responses: { 200: { description: 'All of them, by kind and name.', content: json(ConfigSet) }, ...problems },
})

const get = createRoute({
  method: 'get',
  path: '/v1/config/{id}',
  tags,
  summary: 'One config file',
  middleware: [requireScope('config:read')] as const,
  request: { params, query: PoolQuery },
  responses: { 200: { description: 'The file.', headers, content: json(File) }, ...problems, ...notFound },
})

const put = createRoute({
  method: 'put',
  path: '/v1/config/{id}',
  tags,
  summary: 'Write a config file',
  description:
    'In place of what was there. Every run that is submitted afterwards finds it, on every runner of the pool. What would start a command, read a file of the machine or widen what a run is allowed is refused.',
  middleware: [requireScope('config:write')] as const,
  request: { params, query: PoolQuery, headers: IfMatch, body: { required: true, content: json(Content) } },
  responses: {
    200: { description: 'It was there and is another one now.', headers, content: json(Written) },
    201: { description: 'It is new.', headers, content: json(Written) },
    ...problems,
    ...changed,
    413: problem('The body is larger than 1 MiB, or the files of the pool are too large together.'),
    415: problem('The body is not JSON.'),
  },
})

const remove = createRoute({
  method: 'delete',
  path: '/v1/config/{id}',
  tags,
  summary: 'Take a config file away',
  middleware: [requireScope('config:write')] as const,
  request: { params, query: PoolQuery, headers: IfMatch },
  responses: { 204: { description: 'It is gone.' }, ...problems, ...notFound, 409: problem('It was changed meanwhile.') },
})

export const config = newRouter()

config.openapi(list, async (c) => {
  const { store, hub } = c.get('deps')
  const { tenant, narrowing } = c.get('principal')
  const { kind, pool: asked } = c.req.valid('query')
  const pool = poolOf(narrowing, asked)
  const kinds = kind === undefined ? CONFIG_KINDS : [kind]
  const all = { limit: MAX_CONFIG_FILES, offset: 0 }
  const [version, runners, online, ...pages] = await Promise.all([
    configVersion(store.db, { tenant, pool }),
    listRunners(store.db, tenant),
    hub.online(tenant),
    ...kinds.map(async (one) => (await listConfigFiles({ store }, tenant, pool, one, all)).items.map((item) => ({ ...item, kind: one }))),
  ])
  const data = pages.flat().map(({ updated_at, ...item }) => ({ id: idOf(item), ...item, updated_at: new Date(updated_at).toISOString() }))
  const has = new Map(online.map((runner) => [runner.id, runner.config]))
  const machines = runners
    .filter((runner) => runner.pool === pool)
    .map(({ id, name }) => ({ id, name, version: has.get(id)?.version ?? null, error: has.get(id)?.error ?? null }))
  return c.json({ pool, version, data, runners: machines, next: null }, 200)
})

config.openapi(get, async (c) => {
  const { tenant, narrowing } = c.get('principal')
  const { id } = c.req.valid('param')
  const { kind, name } = refOf(id)
  const pool = poolOf(narrowing, c.req.valid('query').pool)
  const row = await readConfigFile(c.get('deps'), tenant, pool, kind, name)
  if (!row) throw missing(id)
  const { version, content, updatedBy, createdAt, updatedAt } = row
  const at = { created_at: new Date(createdAt).toISOString(), updated_at: new Date(updatedAt).toISOString() }
  return c.json({ id, kind, name, version, content, updated_by: updatedBy, ...at }, 200, { etag: `"${version}"` })
})

config.openapi(put, async (c) => {
  const who = c.get('principal')
  const { id } = c.req.valid('param')
  const pool = poolOf(who.narrowing, c.req.valid('query').pool)
  const wish = { ...refOf(id), pool, at: versionOf(c.req.valid('header')), content: c.req.valid('json').content }
  const { outcome, version } = await replaceConfigFile(c.get('deps'), { ...who, requestId: c.get('requestId') }, wish)
  return c.json({ id, pool, version }, outcome === 'created' ? 201 : 200, { etag: `"${version}"` })
})

config.openapi(remove, async (c) => {
  const who = c.get('principal')
  const { id } = c.req.valid('param')
  const { kind, name } = refOf(id)
  const pool = poolOf(who.narrowing, c.req.valid('query').pool)
  const by = { ...who, requestId: c.get('requestId') }
  if (!(await deleteConfigFile(c.get('deps'), by, pool, kind, name, versionOf(c.req.valid('header'))))) throw missing(id)
  return c.body(null, 204)
})

const versionOf = ({ 'if-match': match }: z.infer<typeof IfMatch>): number | undefined => (match === undefined ? undefined : Number(match.slice(1, -1)))

const missing = (id: string): Fault => new Fault('not_found', `no config file ${id}`)
