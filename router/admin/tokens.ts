/** `/admin/v1/tokens`: tokens for apps, people and other admins; who has one, and taking one back. */
import { createRoute, z } from '@hono/zod-openapi'
import type { Context } from 'hono'
import { Fault } from '../../shared/faults.ts'
import { Name, TenantId } from '../../shared/ids.ts'
import { Narrowing } from '../../shared/tenant-settings.ts'
import { notFound, problems } from '../api/run-schemas.ts'
import { requireAdmin } from '../guard/authenticate.ts'
import { DEFAULT_TTL_S, MAX_TTL_S, newToken } from '../guard/mint.ts'
import { mayReach, tenantOf } from '../guard/operator.ts'
import { newRouter } from '../guard/router.ts'
import type { AppEnv } from '../ports.ts'
import { haveTenant } from '../store/tenant-pages.ts'
import { countUnrevoked, findToken, listTokens, tenantRevocation, tokenInsertion, tokenRevocation, tokensRevocation, type TokenRow } from '../store/tokens.ts'
import { authorOf, commit, iso, isoOrNull } from './change.ts'
import { AppScopes, Limits, Subject } from './principal-schemas.ts'
import { page, pageOf, TenantPageQuery } from './pages.ts'

const NewToken = z.strictObject({
  kind: z.enum(['app', 'admin']),
  scopes: AppScopes.optional().describe('Of an app token; an admin token has every scope'),
  subject: Subject.optional().describe('Who it is for, as it will be shown; the kind unless given'),
  family: Name.optional().describe('Tokens of a family are revoked together'),
  limits: Limits.optional().describe('Of an app token: what it may not go beyond'),
  ttl_s: z.int().min(1).max(MAX_TTL_S).default(DEFAULT_TTL_S).describe('Seconds until it expires'),
  tenant: TenantId.optional().describe('Your own unless given; a tenant exists from its first token on'),
})

const Token = z
  .object({
    jti: z.string(),
    tenant: z.string(),
    kind: z.enum(['app', 'admin']),
    subject: z.string(),
    scopes: z.array(z.string()),
    family: z.string().nullable(),
    limits: Narrowing,
    created_at: z.iso.datetime(),
    expires_at: z.iso.datetime(),
    revoked_at: z.iso.datetime().nullable(),
  })
  .openapi('Token')

const Revocation = z.strictObject({
  tenant: TenantId.optional().describe('Your own unless given'),
  family: Name.optional().describe('The tokens of this family'),
  all: z
    .literal(true)
    .optional()
    .describe('Everything of the tenant that was issued or registered until now, the token of this request included, tokens of other issuers too'),
})

const json = <S extends z.ZodType>(schema: S) => ({ 'application/json': { schema } })
const params = z.object({ jti: z.string().max(128) })
const shared = { tags: ['identity'], middleware: [requireAdmin()] }
const one = { 200: { description: 'The token, without the token itself.', content: json(Token) }, ...problems, ...notFound }

const create = createRoute({
  ...shared,
  method: 'post',
  path: '/admin/v1/tokens',
  summary: 'Make a token',
  description: 'The token is in this answer and nowhere else.',
  request: { body: { required: true, content: json(NewToken) } },
  responses: {
    201: { description: 'The token.', content: json(z.object({ token: z.string(), jti: z.string(), expires_at: z.iso.datetime() })) },
    ...problems,
  },
})
const list = createRoute({
  ...shared,
  method: 'get',
  path: '/admin/v1/tokens',
  summary: 'Tokens, newest first',
  description: 'Those that this router made. What an issuer of yours makes is not known here.',
  request: { query: TenantPageQuery.extend({ family: Name.optional() }) },
  responses: { 200: { description: 'A page.', content: json(pageOf(Token)) }, ...problems },
})
const get = createRoute({ ...shared, method: 'get', path: '/admin/v1/tokens/{jti}', summary: 'One token', request: { params }, responses: one })
const revoke = createRoute({
  ...shared,
  method: 'delete',
  path: '/admin/v1/tokens/{jti}',
  summary: 'Revoke a token',
  description: 'Refused everywhere within 5 s; what it has open is closed within 15 s. Its row stays.',
  request: { params },
  responses: one,
})
const revokeMany = createRoute({
  ...shared,
  method: 'post',
  path: '/admin/v1/tokens/revoke',
  summary: 'Revoke a family of tokens, or all of a tenant',
  request: { body: { required: true, content: json(Revocation) } },
  responses: { 200: { description: 'How many of the tokens that are listed it ended.', content: json(z.object({ revoked: z.int() })) }, ...problems },
})

export const adminTokens = newRouter()

adminTokens.openapi(create, async (c) => {
  const deps = c.get('deps')
  const { kind, scopes, limits, family, subject = kind, ttl_s: ttlS, tenant: wished } = c.req.valid('json')
  if (kind === 'admin') refuseOfAdmin({ scopes, limits })
  const tenant = tenantOf(c, wished)
  const { token, row } = await newToken(deps, { kind, tenant, subject, scopes, narrowing: limits, family, ttlS })
  const { db } = deps.store
  const statements = [haveTenant(db, tenant, row.createdAt), tokenInsertion(db, row)]
  await commit(deps, authorOf(c), statements, { tenant, action: 'token.create', target: `token/${row.jti}`, after: view(row) })
  c.header('Cache-Control', 'no-store')
  return c.json({ token, jti: row.jti, expires_at: iso(row.expiresAt) }, 201)
})

adminTokens.openapi(list, async (c) => {
  const { tenant, family, after, limit } = c.req.valid('query')
  const rows = await listTokens(c.get('deps').store.db, { tenant: tenantOf(c, tenant), family }, after, limit + 1)
  return c.json(page(rows, limit, (row) => row.jti, view), 200)
})

adminTokens.openapi(get, async (c) => c.json(view(await mustFind(c, c.req.valid('param').jti)), 200))

adminTokens.openapi(revoke, async (c) => {
  const deps = c.get('deps')
  const row = await mustFind(c, c.req.valid('param').jti)
  if (row.revokedAt !== null) return c.json(view(row), 200)
  const revokedAt = deps.platform.now()
  const after = view({ ...row, revokedAt })
  const change = { tenant: row.tenant, action: 'token.revoke', target: `token/${row.jti}`, before: view(row), after }
  await commit(deps, authorOf(c), [tokenRevocation(deps.store.db, row.jti, revokedAt)], change)
  return c.json(after, 200)
})

adminTokens.openapi(revokeMany, async (c) => {
  const deps = c.get('deps')
  const { tenant: wished, family, all } = c.req.valid('json')
  if ((family === undefined) === (all === undefined)) throw new Fault('invalid_request', 'family: name a family, or say `all: true`', { extra: { field: 'family' } })
  const tenant = tenantOf(c, wished)
  const { db } = deps.store
  const now = deps.platform.now()
  const revoked = await countUnrevoked(db, { tenant, family })
  const statements = [tokensRevocation(db, { tenant, family }, now)]
  if (all) statements.unshift(haveTenant(db, tenant, now), tenantRevocation(db, tenant, now))
  const change = family === undefined ? { action: 'token.revoke_all', target: `tenant/${tenant}` } : { action: 'token.revoke_family', target: `token-family/${family}` }
  await commit(deps, authorOf(c), statements, { tenant, ...change, after: { revoked } })
  return c.json({ revoked }, 200)
})

function refuseOfAdmin(wish: { readonly scopes: unknown; readonly limits: unknown }): void {
  for (const field of ['scopes', 'limits'] as const) {
    // Whoever can make tokens can make one without them.
    if (wish[field] !== undefined) throw new Fault('invalid_request', `${field}: an admin token has every scope and no limits`, { extra: { field } })
  }
}

async function mustFind(c: Context<AppEnv>, jti: string): Promise<TokenRow> {
  const row = await findToken(c.get('deps').store.db, jti)
  if (!row || !mayReach(c.get('principal'), row)) throw new Fault('not_found', `no token ${jti}`)
  return row
}

function view({ jti, tenant, kind, subject, scopes, family, narrowing, createdAt, expiresAt, revokedAt }: TokenRow): z.infer<typeof Token> {
  const times = { created_at: iso(createdAt), expires_at: iso(expiresAt), revoked_at: isoOrNull(revokedAt) }
  return { jti, tenant, kind, subject, scopes: scopes.split(' '), family, limits: narrowing ?? {}, ...times }
}
