/** Who changed what, for good: a row for each admin change, in the same commit as the change. */
import { audit } from '../../drizzle/schema.ts'
import type { Db, Platform, Principal, Statement } from '../ports.ts'

export type AuditRow = typeof audit.$inferSelect

export interface Change {
  /** Whose thing it is, which may not be the tenant of who changes it. */
  readonly tenant: string
  /** Such as `provider.create`. */
  readonly action: string
  /** Such as `provider/main`. */
  readonly target: string
  /** As the API shows them; never a secret. Undefined: there was, or is, nothing. */
  readonly before?: unknown
  readonly after?: unknown
  readonly requestId?: string
}

/** The config file acts under this name. */
export const FILE_ACTOR = { subject: 'file', jti: '-' }

/** For the batch of the change itself. */
export function auditStatement(db: Db, platform: Pick<Platform, 'now' | 'id'>, who: Pick<Principal, 'subject' | 'jti'>, change: Change): Statement {
  const { tenant, action, target, before, after, requestId } = change
  return db.insert(audit).values({
    id: platform.id(),
    at: platform.now(),
    tenant,
    actor: who.subject,
    jti: who.jti,
    action,
    target,
    before: before ?? null,
    after: after ?? null,
    requestId: requestId ?? null,
  })
}
