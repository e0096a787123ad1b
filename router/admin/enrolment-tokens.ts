/** `/admin/v1/enrolment-tokens`: an admin lets one machine in, sees who has not come yet, and takes an invitation back. */
import { createRoute, z } from '@hono/zod-openapi'
import { Fault } from '../../shared/faults.ts'
import { Name, TenantId } from '../../shared/ids.ts'
import { notFound, problems } from '../api/run-schemas.ts'
import { requireAdmin } from '../guard/authenticate.ts'
import { ENROLMENT_TTL_S, newEnrolment } from '../guard/enrolment.ts'
import { mayReach, tenantOf } from '../guard/operator.ts'
import { newRouter } from '../guard/router.ts'
import {
  deleteEnrolment,
  enrolmentId,
  findEnrolment,
  insertEnrolmentStatement,
  listEnrolments,
  type EnrolmentRow,
} from '../store/enrolment-pages.ts'
import { haveTenant } from '../store/tenant-pages.ts'
import { authorOf, commit, iso, isoOrNull } from './change.ts'
import { page, pageOf, TenantPageQuery } from './pages.ts'

const Body = z.strictObject({
  pool: Name.default('default').describe('The pool that the runner will belong to'),
  tenant: TenantId.optional().describe('Your own unless given; the runner will serve no other'),
  ttl_s: z.int().min(1).max(ENROLMENT_TTL_S).default(ENROLMENT_TTL_S).describe('Seconds until it expires'),
})

const Enrolment = z
  .object({
    id: z.string(),
    tenant: z.string(),
    pool: z.string(),
    created_at: z.iso.datetime(),
    expires_at: z.iso.datetime(),
    used_at: z.iso.datetime().nullable(),
  })
  .openapi('Enrolment')

const json = <S extends z.ZodType>(schema: S) => ({ 'application/json': { schema } })
const shared = { tags: ['fleet'], middleware: [requireAdmin()] }

const create = createRoute({
  ...shared,
  method: 'post',
  path: '/admin/v1/enrolment-tokens',
  summary: 'Make a one-time token that enrols a runner',
  description: 'Good for one machine and for an hour at most. It is in this answer and nowhere else.',
  request: { body: { required: true, content: json(Body) } },
  responses: {
    201: {
      description: 'The token.',
      content: json(z.object({ id: z.string(), token: z.string(), pool: z.string(), expires_at: z.iso.datetime() })),
    },
    ...problems,
  },
})
const list = createRoute({
  ...shared,
  method: 'get',
  path: '/admin/v1/enrolment-tokens',
  summary: 'Enrolment tokens that were made, without the tokens',
  description: 'Those that were used or have expired are swept away within minutes.',
  request: { query: TenantPageQuery },
  responses: { 200: { description: 'A page.', content: json(pageOf(Enrolment)) }, ...problems },
})
const remove = createRoute({
  ...shared,
  method: 'delete',
  path: '/admin/v1/enrolment-tokens/{id}',
  summary: 'Take an enrolment token back',
  description: 'A runner that it has enrolled stays; revoke that one by itself.',
  request: { params: z.object({ id: z.string().max(64) }) },
  responses: { 204: { description: 'It enrols nobody any more.' }, ...problems, ...notFound },
})

export const enrolmentTokens = newRouter()

enrolmentTokens.openapi(create, async (c) => {
  const deps = c.get('deps')
  const { pool, ttl_s: ttlS, tenant: wished } = c.req.valid('json')
  const tenant = tenantOf(c, wished)
  const now = deps.platform.now()
  const { token, enrolment } = await newEnrolment({ tenant, pool, ttlS }, now)
  const row: EnrolmentRow = { ...enrolment, usedAt: null }
  const statements = [haveTenant(deps.store.db, tenant, now), insertEnrolmentStatement(deps.store.db, enrolment)]
  await commit(deps, authorOf(c), statements, { tenant, action: 'enrolment.create', target: targetOf(row), after: view(row) })
  c.header('Cache-Control', 'no-store')
  return c.json({ id: enrolmentId(row.hash), token, pool, expires_at: iso(row.expiresAt) }, 201)
})

enrolmentTokens.openapi(list, async (c) => {
  const { tenant, after, limit } = c.req.valid('query')
  const rows = await listEnrolments(c.get('deps').store.db, tenantOf(c, tenant), after, limit + 1)
  return c.json(
    page(rows, limit, (row) => enrolmentId(row.hash), view),
    200,
  )
})

enrolmentTokens.openapi(remove, async (c) => {
  const deps = c.get('deps')
  const { id } = c.req.valid('param')
  const row = await findEnrolment(deps.store.db, id)
  if (!row || !mayReach(c.get('principal'), row)) throw new Fault('not_found', `no enrolment token ${id}`)
  const change = { tenant: row.tenant, action: 'enrolment.delete', target: targetOf(row), before: view(row) }
  await commit(deps, authorOf(c), [deleteEnrolment(deps.store.db, row.hash)], change)
  return c.body(null, 204)
})

const targetOf = ({ hash }: EnrolmentRow) => `enrolment/${enrolmentId(hash)}`

function view({ hash, tenant, pool, createdAt, expiresAt, usedAt }: EnrolmentRow): z.infer<typeof Enrolment> {
  return {
    id: enrolmentId(hash),
    tenant,
    pool,
    created_at: iso(createdAt),
    expires_at: iso(expiresAt),
    used_at: isoOrNull(usedAt),
  }
}
