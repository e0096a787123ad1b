/** What becomes of a run when its last subscriber has left: a field of ours in the bodies of dialects that had no choice. */
import { z } from '@hono/zod-openapi'

export const OnDisconnect = z
  .union([z.enum(['cancel', 'detach']), z.strictObject({ detach_for_s: z.int().min(1).max(86_400) })])
  .openapi({ description: 'Ours: what becomes of the run when its last subscriber has left.' })
export type OnDisconnect = z.infer<typeof OnDisconnect>

/** For a submission: null is never. */
export function patienceMs(policy: OnDisconnect): number | null {
  if (policy === 'detach') return null
  return policy === 'cancel' ? 0 : policy.detach_for_s * 1_000
}
