/**
 * Tenants as their operator sees and changes them. A part of the settings is written by itself, so that two changes do not
 * undo each other.
 */
import { asc, eq, gt, sql } from 'drizzle-orm'
import { tenants } from '../../drizzle/schema.ts'
import type { TenantSettings } from '../../shared/tenant-settings.ts'
import type { Db, Statement } from '../ports.ts'
import type { TenantRow } from './tenants.ts'

/** By id. */
export function listTenants(db: Db, after: string | undefined, limit: number): Promise<TenantRow[]> {
  return db
    .select()
    .from(tenants)
    .where(after === undefined ? undefined : gt(tenants.id, after))
    .orderBy(asc(tenants.id))
    .limit(limit)
}

/** Fails the batch when there is such a tenant. */
export function insertTenant(db: Db, row: Pick<TenantRow, 'id' | 'name' | 'settings' | 'createdAt'>): Statement {
  return db.insert(tenants).values(row)
}

/** A tenant whose tokens come from elsewhere has no row until something is set for it. */
export function haveTenant(db: Db, id: string, now: number): Statement {
  return db.insert(tenants).values({ id, createdAt: now }).onConflictDoNothing()
}

export interface TenantChange {
  readonly name?: string | null | undefined
  readonly disabledAt?: number | null | undefined
  /** Each part replaces what is set of it; null takes it away. */
  readonly routing?: TenantSettings['routing'] | null
  readonly limits?: TenantSettings['limits'] | null
}

export function changeTenant(db: Db, id: string, { name, disabledAt, ...parts }: TenantChange): Statement {
  let settings = sql`${tenants.settings}`
  for (const [part, value] of Object.entries(parts)) {
    if (value === null) settings = sql`json_remove(${settings}, ${`$.${part}`})`
    else if (value !== undefined) settings = sql`json_set(${settings}, ${`$.${part}`}, json(${JSON.stringify(value)}))`
  }
  return db
    .update(tenants)
    .set({ settings, ...(name === undefined ? {} : { name }), ...(disabledAt === undefined ? {} : { disabledAt }) })
    .where(eq(tenants.id, id))
}
