/**
 * `/admin/v1/credentials`: keys and passwords that clients of an older server have already, registered so that they go on
 * working. Only a keyed hash is kept, so what was sent can be recognised and never shown.
 */
import { createRoute, z } from '@hono/zod-openapi'
import type { Context } from 'hono'
import { Fault } from '../../shared/faults.ts'
import { TenantId } from '../../shared/ids.ts'
import { Narrowing } from '../../shared/tenant-settings.ts'
import { notFound, problems } from '../api/run-schemas.ts'
import { APP_DEFAULT_SCOPES } from '../core/scopes.ts'
import { requireAdmin } from '../guard/authenticate.ts'
import { CONTROL, looksLikeJwt, TOKEN } from '../guard/credentials.ts'
import { countGuess, MAX_SECRET, MIN_SECRET, secretText } from '../guard/legacy.ts'
import { mayReach, tenantOf } from '../guard/operator.ts'
import { newRouter } from '../guard/router.ts'
import type { AppEnv } from '../ports.ts'
import { credentialDeletion, credentialInsertion, findCredential, listCredentials, type CredentialRow } from '../store/credentials.ts'
import { haveTenant } from '../store/tenant-pages.ts'
import { authorOf, commit, iso } from './change.ts'
import { page, pageOf, TenantPageQuery } from './pages.ts'
import { AppScopes, Limits, Subject } from './principal-schemas.ts'

const common = {
  subject: Subject.describe('Who uses it, as it will be shown'),
  scopes: AppScopes.optional(),
  limits: Limits.optional(),
  tenant: TenantId.optional().describe('Your own unless given'),
}
const plain = (text: string) => !CONTROL.test(text)
const NewCredential = z.discriminatedUnion('kind', [
  z.strictObject({
    ...common,
    kind: z.literal('key'),
    secret: z
      .string()
      .min(MIN_SECRET)
      .max(MAX_SECRET)
      .regex(TOKEN, 'must be visible ASCII without quotes and commas')
      .refine((secret) => !looksLikeJwt(secret), 'is a JWT; configure its issuer instead')
      .describe('Sent as `Authorization: Bearer` or `x-api-key`'),
  }),
  z.strictObject({
    ...common,
    kind: z.literal('basic'),
    user: z
      .string()
      .min(1)
      .max(256)
      .refine((user) => !user.includes(':') && plain(user), 'must have no colon and no control characters'),
    password: z
      .string()
      .min(MIN_SECRET)
      .max(MAX_SECRET)
      .refine((password) => plain(password) && !looksLikeJwt(password), 'must have no control characters and be no JWT'),
  }),
])

const Credential = z
  .object({
    id: z.string(),
    tenant: z.string(),
    kind: z.enum(['key', 'basic']),
    subject: z.string(),
    scopes: z.array(z.string()),
    limits: Narrowing,
    created_at: z.iso.datetime(),
  })
  .openapi('Credential')

const json = <S extends z.ZodType>(schema: S) => ({ 'application/json': { schema } })
const params = z.object({ id: z.string().max(64) })
const shared = { tags: ['identity'], middleware: [requireAdmin()] }

const create = createRoute({
  ...shared,
  method: 'post',
  path: '/admin/v1/credentials',
  summary: 'Register a key or password of an older server',
  description: 'It opens app routes from now on, and never admin routes.',
  request: { body: { required: true, content: json(NewCredential) } },
  responses: { 201: { description: 'It, without its secret.', content: json(Credential) }, ...problems, 409: { description: 'It is registered already.' } },
})
const list = createRoute({
  ...shared,
  method: 'get',
  path: '/admin/v1/credentials',
  summary: 'Registered keys and passwords, newest first',
  request: { query: TenantPageQuery },
  responses: { 200: { description: 'A page.', content: json(pageOf(Credential)) }, ...problems },
})
const get = createRoute({
  ...shared,
  method: 'get',
  path: '/admin/v1/credentials/{id}',
  summary: 'One registered key or password',
  request: { params },
  responses: { 200: { description: 'It, without its secret.', content: json(Credential) }, ...problems, ...notFound },
})
const remove = createRoute({
  ...shared,
  method: 'delete',
  path: '/admin/v1/credentials/{id}',
  summary: 'Refuse a key or password from now on',
  request: { params },
  responses: { 204: { description: 'It opens nothing any more.' }, ...problems, ...notFound },
})

export const adminCredentials = newRouter()

adminCredentials.openapi(create, async (c) => {
  const deps = c.get('deps')
  const body = c.req.valid('json')
  const tenant = tenantOf(c, body.tenant)
  // `conflict` says that somebody has this secret, which is as good as having guessed it.
  countGuess(deps, `tenant ${c.get('principal').tenant}`)
  const text = secretText(body.kind === 'key' ? { kind: 'token', token: body.secret } : { kind: 'pair', user: body.user, password: body.password })
  const row = {
    id: `crd_${deps.platform.id()}`,
    hash: await deps.vault.hash(text),
    tenant,
    kind: body.kind,
    subject: body.subject,
    scopes: (body.scopes ?? APP_DEFAULT_SCOPES).join(' '),
    narrowing: body.limits ?? null,
    createdAt: deps.platform.now(),
    revokedAt: null,
  }
  const statements = [haveTenant(deps.store.db, tenant, row.createdAt), credentialInsertion(deps.store.db, row)]
  await commit(deps, authorOf(c), statements, { tenant, action: 'credential.create', target: `credential/${row.id}`, after: view(row) })
  return c.json(view(row), 201)
})

adminCredentials.openapi(list, async (c) => {
  const { tenant, after, limit } = c.req.valid('query')
  const rows = await listCredentials(c.get('deps').store.db, tenantOf(c, tenant), after, limit + 1)
  return c.json(page(rows, limit, (row) => row.id, view), 200)
})

adminCredentials.openapi(get, async (c) => c.json(view(await mustFind(c, c.req.valid('param').id)), 200))

adminCredentials.openapi(remove, async (c) => {
  const deps = c.get('deps')
  const row = await mustFind(c, c.req.valid('param').id)
  const change = { tenant: row.tenant, action: 'credential.delete', target: `credential/${row.id}`, before: view(row) }
  await commit(deps, authorOf(c), [credentialDeletion(deps.store.db, row.id)], change)
  return c.body(null, 204)
})

async function mustFind(c: Context<AppEnv>, id: string): Promise<CredentialRow> {
  const row = await findCredential(c.get('deps').store.db, id)
  if (!row || !mayReach(c.get('principal'), row)) throw new Fault('not_found', `no credential ${id}`)
  return row
}

function view({ id, tenant, kind, subject, scopes, narrowing, createdAt }: CredentialRow): z.infer<typeof Credential> {
  return { id, tenant, kind, subject, scopes: scopes.split(' '), limits: narrowing ?? {}, created_at: iso(createdAt) }
}
