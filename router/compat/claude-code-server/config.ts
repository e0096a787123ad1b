/**
 * `/config`: the files that the CLI reads on the runners of the token's own pool. What may be in them and how they get
 * there is decided in router/engine/config-files.
 */
import { createRoute } from '@hono/zod-openapi'
import type { Context } from 'hono'
import { Fault } from '../../../shared/faults.ts'
import type { ConfigKind, NamedConfigKind } from '../../../shared/config-files.ts'
import { deleteConfigFile, listConfigFiles, putConfigFile, readConfigFile } from '../../engine/config-files.ts'
import { requireScope } from '../../guard/authenticate.ts'
import { poolOf } from '../../guard/narrow.ts'
import { newRouter } from '../../guard/router.ts'
import type { AppEnv } from '../../ports.ts'
import { refusals } from './refusals.ts'
import { ConfigBody, ConfigContentView, ConfigFileView, ConfigList, ConfigNamed, ConfigPage, ConfigParams, ConfigUpdated } from './schemas.ts'
import { sayInvalid } from './words.ts'

const KINDS: Record<NamedConfigKind, string> = { agents: 'agent', skills: 'skill', rules: 'rule' }
const tags = ['claude-code-server']
const reads = requireScope('config:read')
const writes = requireScope('config:write')
const json = <S>(schema: S) => ({ 'application/json': { schema } })
const READ = [400, 401, 403, 404, 429, 500, 503] as const
const WRITE = [400, 401, 403, 404, 409, 413, 415, 429, 500, 503] as const

export const configRoutes = newRouter(sayInvalid)

for (const kind of Object.keys(KINDS) as NamedConfigKind[]) serve(kind, KINDS[kind])
serveClaudeMd()

function serve(kind: NamedConfigKind, one: string): void {
  const path = `/config/${kind}`
  const idOf = (verb: string) => `claudeCodeServer${verb}${one[0]!.toUpperCase()}${one.slice(1)}`
  const missing = () => new Fault('not_found', `${one} not found`)

  const list = createRoute({
    method: 'get',
    path,
    tags,
    operationId: `${idOf('List')}s`,
    summary: `The ${kind} of the pool (claude-code-server)`,
    middleware: reads,
    request: { query: ConfigPage },
    responses: { 200: { description: 'A page, by name.', content: json(ConfigList) }, ...refusals(...READ) },
  })
  configRoutes.openapi(list, async (c) => {
    const { limit, offset } = c.req.valid('query')
    const { items, total } = await listConfigFiles(c.get('deps'), c.get('principal').tenant, ownPool(c), kind, { limit, offset })
    const shown = items.map(({ name, description }) => ({ name, description }))
    return c.json({ items: shown, count: shown.length, total, limit, offset }, 200)
  })

  const get = createRoute({
    method: 'get',
    path: `${path}/{name}`,
    tags,
    operationId: idOf('Get'),
    summary: `One of the ${kind} (claude-code-server)`,
    middleware: reads,
    request: { params: ConfigParams },
    responses: { 200: { description: 'Its content.', content: json(ConfigFileView) }, ...refusals(...READ) },
  })
  configRoutes.openapi(get, async (c) => {
    const { name } = c.req.valid('param')
    return c.json({ name, content: await contentOf(c, kind, name, missing) }, 200)
  })

  const put = createRoute({
    method: 'put',
    path: `${path}/{name}`,
    tags,
    operationId: idOf('Put'),
    summary: `Write one of the ${kind} (claude-code-server)`,
    middleware: writes,
    request: { params: ConfigParams, body: { required: true, content: json(ConfigBody) } },
    responses: {
      200: { description: 'In place of what was there.', content: json(ConfigNamed) },
      201: { description: 'It is new.', content: json(ConfigNamed) },
      ...refusals(...WRITE),
    },
  })
  configRoutes.openapi(put, async (c) => {
    const { name } = c.req.valid('param')
    return c.json({ name }, await written(c, kind, name, c.req.valid('json').content))
  })

  const remove = createRoute({
    method: 'delete',
    path: `${path}/{name}`,
    tags,
    operationId: idOf('Delete'),
    summary: `Remove one of the ${kind} (claude-code-server)`,
    middleware: writes,
    request: { params: ConfigParams },
    responses: { 204: { description: 'It is gone.' }, ...refusals(...WRITE) },
  })
  configRoutes.openapi(remove, async (c) => {
    const { name } = c.req.valid('param')
    if (!(await deleteConfigFile(c.get('deps'), writerOf(c), ownPool(c), kind, name))) throw missing()
    return c.body(null, 204)
  })
}

function serveClaudeMd(): void {
  const path = '/config/claude-md'
  const get = createRoute({
    method: 'get',
    path,
    tags,
    operationId: 'claudeCodeServerGetClaudeMd',
    summary: 'The CLAUDE.md of the pool (claude-code-server)',
    middleware: reads,
    responses: { 200: { description: 'Its content.', content: json(ConfigContentView) }, ...refusals(...READ) },
  })
  configRoutes.openapi(get, async (c) => {
    const missing = () => new Fault('not_found', 'CLAUDE.md not found')
    return c.json({ content: await contentOf(c, 'claude-md', '', missing) }, 200)
  })

  const put = createRoute({
    method: 'put',
    path,
    tags,
    operationId: 'claudeCodeServerPutClaudeMd',
    summary: 'Write the CLAUDE.md of the pool (claude-code-server)',
    middleware: writes,
    request: { body: { required: true, content: json(ConfigBody) } },
    responses: {
      200: { description: 'In place of what was there.', content: json(ConfigUpdated) },
      201: { description: 'It is new.', content: json(ConfigUpdated) },
      ...refusals(...WRITE),
    },
  })
  configRoutes.openapi(put, async (c) => {
    const status = await written(c, 'claude-md', '', c.req.valid('json').content)
    return c.json({ updated: true as const }, status)
  })
}

/** Its clients know of no pools: theirs is the one that their runs go to. */
const ownPool = (c: Context<AppEnv>): string => poolOf(c.get('principal').narrowing, undefined)

const writerOf = (c: Context<AppEnv>) => ({ ...c.get('principal'), requestId: c.get('requestId') })

async function contentOf(c: Context<AppEnv>, kind: ConfigKind, name: string, missing: () => Fault): Promise<string> {
  const file = await readConfigFile(c.get('deps'), c.get('principal').tenant, ownPool(c), kind, name)
  if (!file) throw missing()
  return file.content
}

async function written(c: Context<AppEnv>, kind: ConfigKind, name: string, content: string): Promise<200 | 201> {
  const outcome = await putConfigFile(c.get('deps'), writerOf(c), ownPool(c), kind, name, content)
  return outcome === 'created' ? 201 : 200
}
