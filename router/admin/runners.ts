/** `/admin/v1/runners`: the machines of a tenant, and the two things an admin does to one: drain it, and revoke it for good. */
import { createRoute, z } from '@hono/zod-openapi'
import type { Context } from 'hono'
import { Fault } from '../../shared/faults.ts'
import { Name, RunnerId } from '../../shared/ids.ts'
import { PolicyView } from '../../shared/policy.ts'
import { notFound, problems } from '../api/run-schemas.ts'
import { requireAdmin } from '../guard/authenticate.ts'
import { mayReach, tenantOf } from '../guard/operator.ts'
import { newRouter } from '../guard/router.ts'
import type { AppEnv, OnlineRunner } from '../ports.ts'
import { markRunner, pageOfRunners } from '../store/runner-pages.ts'
import { findRunner, type RunnerRow } from '../store/runners.ts'
import { authorOf, commit, iso, isoOrNull } from './change.ts'
import { page, pageOf, TenantPageQuery } from './pages.ts'

const Runner = z
  .object({
    id: z.string(),
    tenant: z.string(),
    name: z.string(),
    pool: z.string(),
    labels: z.record(z.string(), z.string()),
    status: z.enum(['online', 'draining', 'offline', 'revoked']),
    drained: z.boolean().openapi({ description: 'An admin wants it to take nothing new.' }),
    slots: z.int(),
    busy: z.int(),
    provider: z
      .string()
      .nullable()
      .openapi({ description: 'The login of the machine: `local`, `demo` for the scripted model, or none.' }),
    cli_version: z.string().nullable(),
    agent_version: z.string().nullable(),
    policy: PolicyView.nullable().describe('What the owner of the machine allows, as it said when it connected.'),
    created_at: z.iso.datetime(),
    last_seen_at: z.iso.datetime().nullable(),
    drained_at: z.iso.datetime().nullable(),
    revoked_at: z.iso.datetime().nullable(),
  })
  .openapi('AdminRunner')

const json = <S extends z.ZodType>(schema: S) => ({ 'application/json': { schema } })
const params = z.object({ id: z.string().max(64) })
const shared = { tags: ['fleet'], middleware: [requireAdmin()] }
const one = { 200: { description: 'The runner.', content: json(Runner) }, ...problems, ...notFound }

const list = createRoute({
  ...shared,
  method: 'get',
  path: '/admin/v1/runners',
  summary: 'Runners, the oldest first',
  request: { query: TenantPageQuery.extend({ pool: Name.optional() }) },
  responses: { 200: { description: 'A page.', content: json(pageOf(Runner)) }, ...problems },
})
const get = createRoute({
  ...shared,
  method: 'get',
  path: '/admin/v1/runners/{id}',
  summary: 'One runner',
  request: { params },
  responses: one,
})
const drain = createRoute({
  ...shared,
  method: 'post',
  path: '/admin/v1/runners/{id}/drain',
  summary: 'Give a runner nothing new',
  description: 'What it runs goes on. It stays so over restarts, until the drain is taken back.',
  request: { params },
  responses: one,
})
const undrain = createRoute({
  ...shared,
  method: 'delete',
  path: '/admin/v1/runners/{id}/drain',
  summary: 'Give a drained runner work again',
  request: { params },
  responses: one,
})
const revoke = createRoute({
  ...shared,
  method: 'post',
  path: '/admin/v1/runners/{id}/revoke',
  summary: 'Shut a runner out for good',
  description:
    'Its connection is closed, and its keys open nothing any more. What it was running is lost after the grace of five minutes.',
  request: { params },
  responses: one,
})

export const adminRunners = newRouter()

adminRunners.openapi(list, async (c) => {
  const { tenant: wished, pool, after, limit } = c.req.valid('query')
  const { store, hub } = c.get('deps')
  const tenant = tenantOf(c, wished)
  const rows = await pageOfRunners(store.db, tenant, { pool, after, limit: limit + 1 })
  const live = liveById(await hub.online(tenant))
  return c.json(
    page(
      rows,
      limit,
      (row) => row.id,
      (row) => view(row, live.get(row.id)),
    ),
    200,
  )
})

adminRunners.openapi(get, async (c) => c.json(await answer(c, await mustFind(c, c.req.valid('param').id)), 200))

adminRunners.openapi(drain, async (c) => c.json(await setDrained(c, c.req.valid('param').id, true), 200))

adminRunners.openapi(undrain, async (c) => c.json(await setDrained(c, c.req.valid('param').id, false), 200))

adminRunners.openapi(revoke, async (c) => {
  const deps = c.get('deps')
  const row = await mustFind(c, c.req.valid('param').id)
  if (row.revokedAt === null) {
    const marks = { revokedAt: deps.platform.now(), online: null }
    const change = {
      tenant: row.tenant,
      action: 'runner.revoke',
      target: `runner/${row.id}`,
      before: stand(row),
      after: stand({ ...row, ...marks }),
    }
    await commit(deps, authorOf(c), [markRunner(deps.store.db, row.id, marks)], change)
  }
  // Said again even when the row said so before: the first time its holder may not have been reached.
  await deps.hub.revoke(row.id)
  return c.json(view(await mustFind(c, row.id), undefined), 200)
})

async function setDrained(c: Context<AppEnv>, id: string, on: boolean): Promise<z.infer<typeof Runner>> {
  const deps = c.get('deps')
  const row = await mustFind(c, id)
  if (row.revokedAt !== null) throw new Fault('conflict', `runner ${id} was revoked`)
  const drainedAt = on ? (row.drainedAt ?? deps.platform.now()) : null
  if (drainedAt !== row.drainedAt) {
    const action = on ? 'runner.drain' : 'runner.undrain'
    const change = { tenant: row.tenant, action, target: `runner/${id}`, before: stand(row), after: stand({ ...row, drainedAt }) }
    await commit(deps, authorOf(c), [markRunner(deps.store.db, id, { drainedAt })], change)
  }
  await deps.hub.drain(id, on)
  return answer(c, await mustFind(c, id))
}

/** A foreign, forged or malformed id is the same 404. */
async function mustFind(c: Context<AppEnv>, id: string): Promise<RunnerRow> {
  const row = RunnerId.safeParse(id).success ? await findRunner(c.get('deps').store.db, id) : undefined
  if (!row || !mayReach(c.get('principal'), row)) throw new Fault('not_found', `no runner ${id}`)
  return row
}

async function answer(c: Context<AppEnv>, row: RunnerRow): Promise<z.infer<typeof Runner>> {
  return view(row, liveById(await c.get('deps').hub.online(row.tenant)).get(row.id))
}

const liveById = (online: readonly OnlineRunner[]) => new Map(online.map((runner) => [runner.id, runner]))

/** What of a runner an admin changes. */
const stand = ({ drainedAt, revokedAt }: RunnerRow) => ({ drained_at: isoOrNull(drainedAt), revoked_at: isoOrNull(revokedAt) })

function view(row: RunnerRow, live: OnlineRunner | undefined): z.infer<typeof Runner> {
  const { id, tenant, name, pool, labels } = row
  const revoked = row.revokedAt !== null
  return {
    id,
    tenant,
    name,
    pool,
    labels: live?.labels ?? labels,
    status: revoked ? 'revoked' : !live ? 'offline' : live.draining ? 'draining' : 'online',
    drained: row.drainedAt !== null,
    slots: live?.slots ?? 0,
    busy: live?.busy ?? 0,
    provider: live?.provider ?? null,
    cli_version: live?.cliVersion ?? null,
    agent_version: live?.agentVersion ?? null,
    policy: live?.policy ?? row.online?.policy ?? null,
    created_at: iso(row.createdAt),
    last_seen_at: isoOrNull(row.lastSeenAt),
    ...stand(row),
  }
}
