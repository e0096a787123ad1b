/** A session as ccs shows it. */
import type { z } from 'zod'
import type { SessionWithTotals } from '../../engine/sessions.ts'
import type { Session } from './schemas.ts'

export function sessionView(row: SessionWithTotals): z.infer<typeof Session> {
  // One that was prepared has an opener; any other was made by its first run.
  const made = row.runner !== null && row.opener === null ? { auto_created: true } : {}
  return {
    id: row.id,
    created_at: new Date(row.createdAt).toISOString(),
    updated_at: new Date(row.updatedAt).toISOString(),
    model: row.model,
    project_path: row.cwd,
    total_cost_usd: row.costUsd,
    messages_count: row.messages,
    status: row.status,
    metadata: { ...made, ...row.metadata },
  }
}
