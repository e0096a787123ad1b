/** The shapes of a batch, in and out. */
import { z } from '@hono/zod-openapi'
import { BatchId, RunId, SessionId } from '../../shared/ids.ts'
import { PUBLIC_STATUSES } from '../core/run-state.ts'
import { Metadata, RunFields, RunRequest } from './run-schemas.ts'

const MAX_ITEMS = 100

type Item = z.infer<typeof RunRequest>
type Defaults = Partial<Omit<Item, 'prompt'>>

/** An item says what it wants instead of a default; `cwd` and `workspace` are instead of each other. */
export function merged({ cwd, workspace, ...defaults }: Defaults, item: Item): Item {
  const place = item.cwd === undefined && item.workspace === undefined ? { ...(cwd === undefined ? {} : { cwd }), ...(workspace === undefined ? {} : { workspace }) } : {}
  return { ...defaults, ...place, ...item }
}

export const BatchRequest = z
  .strictObject({
    items: z.array(RunFields).min(1).max(MAX_ITEMS).openapi({ description: 'Each as in POST /v1/runs.' }),
    defaults: RunFields.omit({ prompt: true }).optional().openapi({ description: 'For every item that does not say otherwise.' }),
    metadata: Metadata.optional(),
  })
  .superRefine(({ items, defaults = {} }, context) => {
    for (const [index, item] of items.entries()) {
      const { error } = RunRequest.safeParse(merged(defaults, item))
      for (const { path, message } of error?.issues ?? []) context.addIssue({ code: 'custom', path: ['items', index, ...path], message })
    }
  })
  .openapi('BatchRequest')

const count = z.int().nonnegative()
const summary = {
  id: BatchId,
  status: z.enum(['running', 'ended']),
  size: z.int().positive(),
  counts: z.object({
    queued: count,
    running: count,
    succeeded: count,
    failed: count,
    cancelled: count,
    lost: count,
    refused: count.openapi({ description: 'No run came of them.' }),
    not_submitted: count.openapi({ description: 'Not reached yet, or not before the request was cut off: send it again with its Idempotency-Key.' }),
  }),
  cost_usd: z.number().nonnegative(),
  metadata: z.record(z.string(), z.string()).nullable(),
  created_at: z.iso.datetime(),
}
const BatchItem = z
  .object({
    index: count,
    run_id: RunId.nullable(),
    status: z.enum([...PUBLIC_STATUSES, 'refused', 'not_submitted']),
    session_id: SessionId.nullable(),
    cost_usd: z.number().nullable(),
    error: z.object({ code: z.string(), message: z.string() }).optional(),
  })
  .openapi('BatchItem')
export const BatchSummary = z.object(summary).openapi('BatchSummary')
export const Batch = z.object({ ...summary, items: z.array(BatchItem) }).openapi('Batch')

export const BatchQuery = z.strictObject({
  before: BatchId.optional().openapi({ description: 'Cursor: `next` of the page before.' }),
  limit: z.coerce.number().pipe(z.int().min(1).max(100)).default(20),
})
export const BatchPage = z.object({ data: z.array(BatchSummary), next: BatchId.nullable() }).openapi('BatchPage')
