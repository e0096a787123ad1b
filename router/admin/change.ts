/**
 * What every admin change has in common: it is written together with the row that says who made it, or not at all, and is
 * felt here at once.
 *
 * Whether it may be made, and what it is, is decided before. The config file makes its changes the same way.
 */
import type { Context } from 'hono'
import { Fault } from '../../shared/faults.ts'
import type { AppEnv, Deps, Statement } from '../ports.ts'
import { auditStatement, type Change } from '../store/audit.ts'

export type ChangeDeps = Pick<Deps, 'store' | 'platform' | 'catalog' | 'identity' | 'vault' | 'hub'>

/** Who changes something, for the audit. */
export interface Author {
  readonly subject: string
  readonly jti: string
  readonly requestId?: string
}

export function authorOf(c: Context<AppEnv>): Author {
  const { subject, jti } = c.get('principal')
  return { subject, jti, requestId: c.get('requestId') }
}

/** For the batch of the change itself. */
export function auditOf(deps: ChangeDeps, { requestId, ...who }: Author, change: Omit<Change, 'requestId'>): Statement {
  return auditStatement(deps.store.db, deps.platform, who, { ...change, ...(requestId === undefined ? {} : { requestId }) })
}

/** Throws `conflict` when a constraint of the database says no: something with that name is there already. */
export async function commit(
  deps: ChangeDeps,
  author: Author,
  statements: readonly Statement[],
  change: Omit<Change, 'requestId'>,
): Promise<void> {
  try {
    await deps.store.batch([...statements, auditOf(deps, author, change)])
  } catch (error) {
    throw violates(error) ? new Fault('conflict', `${change.target} is there already, or was changed meanwhile`) : error
  }
  deps.catalog.changed(change.tenant)
  deps.identity.registry.changed()
}

function violates(error: unknown): boolean {
  for (let e = error; e instanceof Error; e = e.cause) if (/SQLITE_CONSTRAINT|UNIQUE constraint/i.test(e.message)) return true
  return false
}

export const iso = (ms: number): string => new Date(ms).toISOString()
export const isoOrNull = (ms: number | null): string | null => (ms === null ? null : iso(ms))

/** The same JSON: whether a change would change anything. Keys in another order are another JSON. */
export const same = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b)
