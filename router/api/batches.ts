/** `/v1/batches`: up to a hundred runs in one request. */
import { createRoute, z } from '@hono/zod-openapi'
import type { Context } from 'hono'
import { Fault } from '../../shared/faults.ts'
import { BatchId } from '../../shared/ids.ts'
import { batchSummary, batchView } from '../engine/batch-view.ts'
import { cancelBatch, startBatch } from '../engine/batches.ts'
import { claimOf } from '../engine/claim.ts'
import type { Submission } from '../engine/submit.ts'
import { requireScope } from '../guard/authenticate.ts'
import { newRouter } from '../guard/router.ts'
import { whileWelcome } from '../guard/watch.ts'
import type { AppEnv } from '../ports.ts'
import { findBatch, listBatches, runsOfBatch, tallyBatches, type BatchRow } from '../store/batches.ts'
import { Batch, BatchPage, BatchQuery, BatchRequest, BatchSummary, merged } from './batch-schemas.ts'
import { notFound, Problem, problems } from './run-schemas.ts'
import { wishOf } from './run-wish.ts'

const json = <S extends z.ZodType>(schema: S) => ({ 'application/json': { schema } })
const problemOf = (description: string) => ({ description, content: { 'application/problem+json': { schema: Problem } } })
const params = z.object({ id: z.string().max(64) })

const start = createRoute({
  method: 'post',
  path: '/v1/batches',
  tags: ['batches'],
  summary: 'Start up to a hundred runs',
  description:
    'Answers when each item is a run that has begun or waits, or is refused: one that is refused does not undo the others. Send an `Idempotency-Key`: the same request with the same key goes on where the first was cut off.',
  middleware: [requireScope('runs:write')] as const,
  request: { body: { required: true, content: json(BatchRequest) } },
  responses: {
    202: { description: 'Submitted; `Location` leads to it.', content: json(Batch) },
    ...problems,
    404: problemOf('The batch of this Idempotency-Key is gone.'),
    413: problemOf('The body is larger than 1 MiB.'),
    422: problemOf('The Idempotency-Key was used for another body.'),
    503: problemOf('Not all could be submitted; `batch_id` leads to those that were.'),
  },
})
const list = createRoute({
  method: 'get',
  path: '/v1/batches',
  tags: ['batches'],
  summary: 'Batches, newest first',
  middleware: [requireScope('runs:read')] as const,
  request: { query: BatchQuery },
  responses: { 200: { description: 'A page.', content: json(BatchPage) }, ...problems },
})
const get = createRoute({
  method: 'get',
  path: '/v1/batches/{id}',
  tags: ['batches'],
  summary: 'One batch, with its items',
  middleware: [requireScope('runs:read')] as const,
  request: { params },
  responses: { 200: { description: 'The batch.', content: json(Batch) }, ...problems, ...notFound },
})
const cancel = createRoute({
  method: 'post',
  path: '/v1/batches/{id}/cancel',
  tags: ['batches'],
  summary: 'End all runs of a batch',
  description: 'Idempotent. Items that are not submitted yet never will be.',
  middleware: [requireScope('runs:write')] as const,
  request: { params },
  responses: {
    200: { description: 'All had ended already.', content: json(BatchSummary) },
    202: { description: 'Those that live are being ended.', content: json(BatchSummary) },
    ...problems,
    ...notFound,
  },
})

export const batches = newRouter()

batches.openapi(start, async (c) => {
  const deps = c.get('deps')
  const who = c.get('principal')
  const body = c.req.valid('json')
  const { items, defaults = {}, metadata } = body
  const wishes = items.map((item): Submission | Fault => {
    try {
      return wishOf(deps, who, merged(defaults, item), true)
    } catch (error) {
      if (error instanceof Fault) return error
      throw error
    }
  })
  const claim = await claimOf(c.req.header('idempotency-key'), body)
  // Who leaves does not mean to leave half of it.
  const stays = new AbortController().signal
  const newSessionId = () => crypto.randomUUID()
  const work = whileWelcome(c.get('recheck'), stays, (signal) => startBatch(deps, who, { items: wishes, metadata }, { claim, newSessionId, signal }))
  deps.platform.background(work.then(() => undefined, () => undefined))
  const row = await mustFind(c, await work)
  c.header('location', `/v1/batches/${row.id}`)
  c.header('x-should-retry', 'false')
  return c.json(await viewOf(c, row), 202)
})

batches.openapi(list, async (c) => {
  const { store, platform } = c.get('deps')
  const { tenant } = c.get('principal')
  const { before, limit } = c.req.valid('query')
  const rows = await listBatches(store.db, tenant, { before, limit: limit + 1 })
  const page = rows.slice(0, limit)
  const tallies = await tallyBatches(store.db, tenant, page.map(({ id }) => id))
  const data = page.map((row) => batchSummary(row, tallies.filter(({ batch }) => batch === row.id), platform.now()))
  return c.json({ data, next: rows.length > limit ? (page.at(-1)?.id ?? null) : null }, 200)
})

batches.openapi(get, async (c) => c.json(await viewOf(c, await mustFind(c, c.req.valid('param').id)), 200))

batches.openapi(cancel, async (c) => {
  const { id } = c.req.valid('param')
  const deps = c.get('deps')
  const ending = await cancelBatch(deps, await mustFind(c, id))
  const { items: _, ...view } = await viewOf(c, await mustFind(c, id))
  return c.json(view, ending ? 202 : 200)
})

async function viewOf(c: Context<AppEnv>, row: BatchRow): Promise<z.infer<typeof Batch>> {
  const { store, platform } = c.get('deps')
  return batchView(row, await runsOfBatch(store.db, row.tenant, row.id), platform.now())
}

/** A foreign, forged or malformed id is the same 404. */
async function mustFind(c: Context<AppEnv>, id: string): Promise<BatchRow> {
  const row = BatchId.safeParse(id).success ? await findBatch(c.get('deps').store.db, c.get('principal').tenant, id) : undefined
  if (!row) throw new Fault('not_found', `no batch ${id.slice(0, 64)}`)
  return row
}
