/**
 * Which provider a session is with. Soft: a binding is made and refreshed by use, moves when its provider fails, and is
 * forgotten when its time is over.
 */
import { and, asc, count, eq, gt, lte, ne, sql } from 'drizzle-orm'
import { bindings, runs } from '../../drizzle/schema.ts'
import type { Db, Statement, Store } from '../ports.ts'
import { compiled, prepared } from './prepared.ts'

export type BindingRow = typeof bindings.$inferSelect
export type BindingPage = { readonly after?: string | undefined; readonly limit: number; readonly provider?: string | undefined; readonly now: number }

/** Undefined: it may go anywhere. */
export async function boundProvider(db: Db, tenant: string, session: string, now: number): Promise<string | undefined> {
  return (await findBinding(db, tenant, session, now))?.provider
}

const bound = compiled<BindingRow>(
  (given) => sql`
    INSERT INTO ${bindings} (session, tenant, provider, created_at, expires_at)
    VALUES (${given('session')}, ${given('tenant')}, ${given('provider')}, ${given('createdAt')}, ${given('expiresAt')})
    ON CONFLICT (session) DO UPDATE SET provider = excluded.provider, expires_at = excluded.expires_at WHERE ${bindings}.tenant = excluded.tenant`,
)

/** Made, moved or refreshed. The session of another tenant stays his. */
export function bindStatement(db: Db, row: BindingRow): Statement {
  return db.run(bound(row)) as Statement
}

/** The session of this run, wherever it is bound to, is with `provider` from now on. False: it was already, or is not bound. */
export async function moveSession(db: Db, tenant: string, run: string, provider: string): Promise<boolean> {
  const its = sql`${bindings.session} = (SELECT session FROM ${runs} WHERE id = ${run} AND tenant = ${tenant})`
  const rows = await db
    .update(bindings)
    .set({ provider })
    .where(and(its, eq(bindings.tenant, tenant), ne(bindings.provider, provider)))
    .returning({ session: bindings.session })
  return rows.length === 1
}

/** By session. */
export function readBindings(db: Db, tenant: string, { after, limit, provider, now }: BindingPage): Promise<BindingRow[]> {
  return db
    .select()
    .from(bindings)
    .where(
      and(
        eq(bindings.tenant, tenant),
        gt(bindings.expiresAt, now),
        provider === undefined ? undefined : eq(bindings.provider, provider),
        after === undefined ? undefined : gt(bindings.session, after),
      ),
    )
    .orderBy(asc(bindings.session))
    .limit(limit)
}

/** How many sessions are with each provider. */
export async function boundSessions(db: Db, tenant: string, now: number): Promise<Map<string, number>> {
  const rows = await db
    .select({ provider: bindings.provider, sessions: count() })
    .from(bindings)
    .where(and(eq(bindings.tenant, tenant), gt(bindings.expiresAt, now)))
    .groupBy(bindings.provider)
  return new Map(rows.map((r) => [r.provider, r.sessions]))
}

const liveBinding = prepared((db) =>
  db
    .select()
    .from(bindings)
    .where(and(eq(bindings.session, sql.placeholder('session')), eq(bindings.tenant, sql.placeholder('tenant')), gt(bindings.expiresAt, sql.placeholder('now'))))
    .limit(1)
    .prepare(),
)

export async function findBinding(db: Db, tenant: string, session: string, now: number): Promise<BindingRow | undefined> {
  const [row] = await liveBinding(db).all({ session, tenant, now })
  return row
}

/** Its next run chooses anew. */
export async function deleteBinding(store: Store, tenant: string, session: string, audit: Statement): Promise<void> {
  await store.batch([store.db.delete(bindings).where(and(eq(bindings.session, session), eq(bindings.tenant, tenant))), audit])
}

export async function pruneBindings(db: Db, now: number): Promise<void> {
  await db.delete(bindings).where(lte(bindings.expiresAt, now))
}
