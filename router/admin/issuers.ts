/**
 * `/admin/v1/issuers`: who else may say who somebody is. Operators decide that, as it makes the router fetch a URL; the
 * admins of the tenant that an issuer speaks for see it and can end it.
 */
import { createRoute, z } from '@hono/zod-openapi'
import type { Context } from 'hono'
import { Fault } from '../../shared/faults.ts'
import { TenantId } from '../../shared/ids.ts'
import { notFound, problem, problems } from '../api/run-schemas.ts'
import { requireAdmin } from '../guard/authenticate.ts'
import { IssuerMapping } from '../guard/issuer-mapping.ts'
import { isIssuerUrl } from '../guard/issuer-url.ts'
import { mayReach, mustOperate, tenantOf } from '../guard/operator.ts'
import { newRouter } from '../guard/router.ts'
import type { AppEnv } from '../ports.ts'
import { findIssuer, issuerChange, issuerDeletion, issuerInsertion, listIssuers, type IssuerRow } from '../store/issuers.ts'
import { haveTenant } from '../store/tenant-pages.ts'
import { authorOf, commit, iso, same } from './change.ts'
import { page, pageOf, TenantPageQuery } from './pages.ts'

// Made anew: what was made before the OpenAPI library was loaded cannot be named.
const Mapping = IssuerMapping.extend({}).openapi('IssuerMapping', {
  description:
    '`require`: claims that have to have one of these values, to the letter. `subject`: the claim that says who it is. `scopes` for everybody, `scopes_from` by the values of a claim. `limits`: what nobody of it goes beyond. A claim is a name, or a list of names that leads to it.',
})

export const NewIssuer = z.strictObject({
  id: z.string().regex(/^[a-z0-9][a-z0-9_-]{0,62}$/, 'must be 1 to 63 lower-case letters, digits, - or _'),
  url: z
    .string()
    .max(1_024)
    .refine(isIssuerUrl, 'must be an https URL without a query (http only for this machine)')
    .describe('As it is in `iss`, to the letter'),
  audience: z.string().min(1).max(256).describe('One of `aud`, to the letter'),
  tenant: TenantId.optional().describe('Whose tokens these are; your own unless given'),
  mapping: Mapping,
  enabled: z.boolean().default(true),
})
const IssuerPatch = z.strictObject({ mapping: Mapping.optional(), enabled: z.boolean().optional() })

const Issuer = z
  .object({
    id: z.string(),
    tenant: z.string(),
    url: z.string(),
    audience: z.string(),
    mapping: IssuerMapping,
    enabled: z.boolean(),
    created_at: z.iso.datetime(),
  })
  .openapi('Issuer')

const json = <S extends z.ZodType>(schema: S) => ({ 'application/json': { schema } })
const params = z.object({ id: z.string().max(64) })
const shared = { tags: ['identity'], middleware: [requireAdmin()] }
const one = { 200: { description: 'The issuer.', content: json(Issuer) }, ...problems, ...notFound }

const create = createRoute({
  ...shared,
  method: 'post',
  path: '/admin/v1/issuers',
  summary: 'Trust an issuer',
  description: 'Its keys are found by OpenID Connect discovery, when its first token comes.',
  request: { body: { required: true, content: json(NewIssuer) } },
  responses: {
    201: { description: 'The issuer.', content: json(Issuer) },
    ...problems,
    409: problem('There is one of this id, or of this URL and audience.'),
  },
})
const list = createRoute({
  ...shared,
  method: 'get',
  path: '/admin/v1/issuers',
  summary: 'Trusted issuers, by id',
  request: { query: TenantPageQuery },
  responses: { 200: { description: 'A page.', content: json(pageOf(Issuer)) }, ...problems },
})
const get = createRoute({
  ...shared,
  method: 'get',
  path: '/admin/v1/issuers/{id}',
  summary: 'One issuer',
  request: { params },
  responses: one,
})
const patch = createRoute({
  ...shared,
  method: 'patch',
  path: '/admin/v1/issuers/{id}',
  summary: 'Change what the tokens of an issuer may do, or stop taking them',
  request: { params, body: { required: true, content: json(IssuerPatch) } },
  responses: one,
})
const remove = createRoute({
  ...shared,
  method: 'delete',
  path: '/admin/v1/issuers/{id}',
  summary: 'Trust an issuer no more',
  request: { params },
  responses: { 204: { description: 'Its tokens are refused.' }, ...problems, ...notFound },
})

export const adminIssuers = newRouter()

adminIssuers.openapi(create, async (c) => {
  mustOperate(c)
  const deps = c.get('deps')
  const { tenant: wished, ...body } = c.req.valid('json')
  const tenant = tenantOf(c, wished)
  if (body.url === deps.keys.issuer) throw new Fault('invalid_request', 'url: that is this router', { extra: { field: 'url' } })
  const row: IssuerRow = { ...body, tenant, createdAt: deps.platform.now() }
  const statements = [haveTenant(deps.store.db, tenant, row.createdAt), issuerInsertion(deps.store.db, row)]
  await commit(deps, authorOf(c), statements, {
    tenant,
    action: 'issuer.create',
    target: `issuer/${row.id}`,
    after: issuerView(row),
  })
  return c.json(issuerView(row), 201)
})

adminIssuers.openapi(list, async (c) => {
  const { tenant, after, limit } = c.req.valid('query')
  const rows = await listIssuers(c.get('deps').store.db, tenantOf(c, tenant), after, limit + 1)
  return c.json(
    page(rows, limit, (row) => row.id, issuerView),
    200,
  )
})

adminIssuers.openapi(get, async (c) => c.json(issuerView(await mustFind(c, c.req.valid('param').id)), 200))

adminIssuers.openapi(patch, async (c) => {
  const deps = c.get('deps')
  const row = await mustFind(c, c.req.valid('param').id)
  mustOperate(c)
  const { mapping = row.mapping, enabled = row.enabled } = c.req.valid('json')
  const after: IssuerRow = { ...row, mapping, enabled }
  if (same(after, row)) return c.json(issuerView(row), 200)
  const change = {
    tenant: row.tenant,
    action: 'issuer.update',
    target: `issuer/${row.id}`,
    before: issuerView(row),
    after: issuerView(after),
  }
  await commit(deps, authorOf(c), [issuerChange(deps.store.db, row.id, { mapping, enabled })], change)
  return c.json(issuerView(after), 200)
})

adminIssuers.openapi(remove, async (c) => {
  const deps = c.get('deps')
  const row = await mustFind(c, c.req.valid('param').id)
  const change = { tenant: row.tenant, action: 'issuer.delete', target: `issuer/${row.id}`, before: issuerView(row) }
  await commit(deps, authorOf(c), [issuerDeletion(deps.store.db, row.id)], change)
  return c.body(null, 204)
})

async function mustFind(c: Context<AppEnv>, id: string): Promise<IssuerRow> {
  const row = await findIssuer(c.get('deps').store.db, id)
  if (!row || !mayReach(c.get('principal'), row)) throw new Fault('not_found', `no issuer ${id}`)
  return row
}

export function issuerView({ id, tenant, url, audience, mapping, enabled, createdAt }: IssuerRow): z.infer<typeof Issuer> {
  return { id, tenant, url, audience, mapping: IssuerMapping.parse(mapping), enabled, created_at: iso(createdAt) }
}
