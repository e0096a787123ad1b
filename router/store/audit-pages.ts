/** Reading back who changed what. */
import { and, desc, eq, gte, lt } from 'drizzle-orm'
import { audit } from '../../drizzle/schema.ts'
import type { Db } from '../ports.ts'
import type { AuditRow } from './audit.ts'

export interface AuditFilter {
  readonly action: string | undefined
  readonly target: string | undefined
  /** Milliseconds since 1970. */
  readonly since: number | undefined
  /** The last row that was seen. */
  readonly after: string | undefined
  readonly limit: number
}

/** Newest first; ids sort by age. */
export function readAudit(db: Db, tenant: string, { action, target, since, after, limit }: AuditFilter): Promise<AuditRow[]> {
  return db
    .select()
    .from(audit)
    .where(
      and(
        eq(audit.tenant, tenant),
        action === undefined ? undefined : eq(audit.action, action),
        target === undefined ? undefined : eq(audit.target, target),
        since === undefined ? undefined : gte(audit.at, since),
        after === undefined ? undefined : lt(audit.id, after),
      ),
    )
    .orderBy(desc(audit.id))
    .limit(limit)
}
