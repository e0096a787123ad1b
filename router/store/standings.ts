/**
 * What the record says of somebody whose token or password is good by itself: one read each, with the tenant and the key
 * that signed beside it, so that a request that nobody has asked about before costs one question.
 */
import { eq, sql } from 'drizzle-orm'
import { credentials, issuers, runners, signingKeys, tenants, tokens } from '../../drizzle/schema.ts'
import type { Db } from '../ports.ts'

/** Of a tenant; null where nothing is set, or there is no such tenant. */
export interface TenantStanding {
  readonly disabledAt: number | null
  readonly revokedBefore: number | null
}

/** Of a token or runner, whose own fields are null when there is no row of it. */
interface Signed extends TenantStanding {
  readonly tenant: string | null
  readonly revokedAt: number | null
  readonly keyRetiredAt: number | null
}
export interface TokenStanding extends Signed {
  readonly kind: 'app' | 'admin' | null
  readonly createdAt: number | null
}
export interface RunnerStanding extends Signed {
  readonly pool: string | null
}
export type IssuerStanding = typeof issuers.$inferSelect & TenantStanding
export type CredentialStanding = typeof credentials.$inferSelect & TenantStanding

const tenantStanding = { disabledAt: tenants.disabledAt, revokedBefore: tenants.revokedBefore }
const signed = { ...tenantStanding, keyRetiredAt: signingKeys.retiredAt }
/** One row, whatever else is there. */
const anyway = sql`(SELECT 1)`

export async function tokenStanding(db: Db, { jti, tenant, kid }: { jti: string; tenant: string; kid: string }): Promise<TokenStanding | undefined> {
  const [row] = await db
    .select({ ...signed, tenant: tokens.tenant, kind: tokens.kind, createdAt: tokens.createdAt, revokedAt: tokens.revokedAt })
    .from(anyway)
    .leftJoin(tokens, eq(tokens.jti, jti))
    .leftJoin(tenants, eq(tenants.id, tenant))
    .leftJoin(signingKeys, eq(signingKeys.kid, kid))
  return row
}

export async function runnerStanding(db: Db, { runner, tenant, kid }: { runner: string; tenant: string; kid: string }): Promise<RunnerStanding | undefined> {
  const [row] = await db
    .select({ ...signed, tenant: runners.tenant, pool: runners.pool, revokedAt: runners.revokedAt })
    .from(anyway)
    .leftJoin(runners, eq(runners.id, runner))
    .leftJoin(tenants, eq(tenants.id, tenant))
    .leftJoin(signingKeys, eq(signingKeys.kid, kid))
  return row
}

export async function credentialStanding(db: Db, hash: string): Promise<CredentialStanding | undefined> {
  const [row] = await db
    .select({ credential: credentials, ...tenantStanding })
    .from(credentials)
    .leftJoin(tenants, eq(tenants.id, credentials.tenant))
    .where(eq(credentials.hash, hash))
  return row && { ...row.credential, disabledAt: row.disabledAt, revokedBefore: row.revokedBefore }
}

/** All that are enabled: only operators make them, so they are few. */
export async function trustedIssuers(db: Db): Promise<IssuerStanding[]> {
  const rows = await db
    .select({ issuer: issuers, ...tenantStanding })
    .from(issuers)
    .leftJoin(tenants, eq(tenants.id, issuers.tenant))
    .where(eq(issuers.enabled, true))
  return rows.map(({ issuer, disabledAt, revokedBefore }) => ({ ...issuer, disabledAt, revokedBefore }))
}
