/**
 * The tables of tenants, of those who may speak for them, and of what they may use and spend. Part of schema.ts; the same
 * rules hold.
 */
import { sql } from 'drizzle-orm'
import { index, integer, primaryKey, real, sqliteTable, text, uniqueIndex } from 'drizzle-orm/sqlite-core'
import type { Prices } from '../shared/grants.ts'
import type { Narrowing, TenantSettings } from '../shared/tenant-settings.ts'

export const tenants = sqliteTable('tenants', {
  id: text('id').primaryKey(),
  name: text('name'),
  settings: text('settings', { mode: 'json' }).$type<TenantSettings>().notNull().default({}),
  /** Nobody of it gets in. */
  disabledAt: integer('disabled_at'),
  /** Tokens issued before then are void, whoever issued them. */
  revokedBefore: integer('revoked_before'),
  createdAt: integer('created_at').notNull(),
})

/** Tokens we minted. The token itself is never stored. */
export const tokens = sqliteTable(
  'tokens',
  {
    jti: text('jti').primaryKey(),
    tenant: text('tenant').notNull(),
    kind: text('kind', { enum: ['app', 'admin'] }).notNull(),
    subject: text('subject').notNull(),
    scopes: text('scopes').notNull(),
    /** Tokens that are revoked together, such as those of one app. */
    family: text('family'),
    narrowing: text('narrowing', { mode: 'json' }).$type<Narrowing>(),
    createdAt: integer('created_at').notNull(),
    expiresAt: integer('expires_at').notNull(),
    revokedAt: integer('revoked_at'),
  },
  (t) => [index('tokens_tenant').on(t.tenant, t.jti), index('tokens_family').on(t.tenant, t.family)],
)

/** Keys that sign our tokens, besides the host's own: the newest that is not retired signs, all of them verify. */
export const signingKeys = sqliteTable('signing_keys', {
  kid: text('kid').primaryKey(),
  /** The private half, sealed; null for the host's own key, which is here only to be retired. */
  sealed: text('sealed'),
  createdAt: integer('created_at').notNull(),
  retiredAt: integer('retired_at'),
})

/** Trusted issuers of tokens that are not ours. */
export const issuers = sqliteTable(
  'issuers',
  {
    id: text('id').primaryKey(),
    /** Whose tokens these are; an issuer never speaks for another tenant. */
    tenant: text('tenant').notNull(),
    /** As it is in `iss`. */
    url: text('url').notNull(),
    audience: text('audience').notNull(),
    /** How claims become scopes and narrowing; the shape is guard/issuer-mapping's. */
    mapping: text('mapping', { mode: 'json' }).$type<Record<string, unknown>>().notNull(),
    enabled: integer('enabled', { mode: 'boolean' }).notNull(),
    createdAt: integer('created_at').notNull(),
  },
  (t) => [uniqueIndex('issuers_url').on(t.url, t.audience), index('issuers_tenant').on(t.tenant, t.id)],
)

/** Keys and passwords of older servers, as keyed hashes: what is sent is never stored. */
export const credentials = sqliteTable(
  'credentials',
  {
    id: text('id').primaryKey(),
    hash: text('hash').notNull(),
    tenant: text('tenant').notNull(),
    kind: text('kind', { enum: ['key', 'basic'] }).notNull(),
    subject: text('subject').notNull(),
    scopes: text('scopes').notNull(),
    narrowing: text('narrowing', { mode: 'json' }).$type<Narrowing>(),
    createdAt: integer('created_at').notNull(),
    revokedAt: integer('revoked_at'),
  },
  (t) => [uniqueIndex('credentials_hash').on(t.hash), index('credentials_tenant').on(t.tenant, t.id)],
)

/** Accounts that pay for tokens. A key is here sealed, with its last four characters and a fingerprint to know it by. */
export const providers = sqliteTable(
  'providers',
  {
    tenant: text('tenant').notNull(),
    id: text('id').notNull(),
    name: text('name').notNull(),
    /** Null for `local`, the login of whichever machine runs. */
    baseUrl: text('base_url'),
    sealedKey: text('sealed_key'),
    /** Which key of the vault it is sealed with. */
    sealedBy: text('sealed_by'),
    /** Raised with each new key or base URL; what is sealed for one version opens for no other. */
    version: integer('version').notNull(),
    keyTail: text('key_tail'),
    keyPrint: text('key_print'),
    env: text('env', { mode: 'json' }).$type<Record<string, string>>().notNull(),
    /** Null: any model. */
    models: text('models', { mode: 'json' }).$type<string[]>(),
    modelMap: text('model_map', { mode: 'json' }).$type<Record<string, string>>().notNull(),
    prices: text('prices', { mode: 'json' }).$type<Prices>(),
    /** 1 to 10. */
    weight: integer('weight').notNull(),
    enabled: integer('enabled', { mode: 'boolean' }).notNull(),
    /** Null: every pool may use it. */
    pools: text('pools', { mode: 'json' }).$type<string[]>(),
    createdAt: integer('created_at').notNull(),
    updatedAt: integer('updated_at').notNull(),
  },
  (t) => [primaryKey({ columns: [t.tenant, t.id] }), index('providers_sealed_by').on(t.sealedBy)],
)

export const BREAKER_STATES = ['closed', 'open', 'half_open'] as const

/** The breaker of a provider (`model` is '') or of one of its models, and what was counted of it. */
export const providerHealth = sqliteTable(
  'provider_health',
  {
    tenant: text('tenant').notNull(),
    provider: text('provider').notNull(),
    model: text('model').notNull().default(''),
    state: text('state', { enum: BREAKER_STATES }).notNull().default('closed'),
    /** Consecutive failures of the provider's own making. */
    failures: integer('failures').notNull().default(0),
    /** When one run may try again; null while open: not before an admin acts. */
    openUntil: integer('open_until'),
    /** The one run that tries has until then. */
    probeUntil: integer('probe_until'),
    reason: text('reason'),
    requests: integer('requests').notNull().default(0),
    failed: integer('failed').notNull().default(0),
    /** Moving average of the time to response headers. */
    latencyMs: real('latency_ms'),
    inputTokens: integer('input_tokens').notNull().default(0),
    outputTokens: integer('output_tokens').notNull().default(0),
    updatedAt: integer('updated_at').notNull(),
  },
  (t) => [primaryKey({ columns: [t.tenant, t.provider, t.model] })],
)

/** Numbers that all replicas count on together, such as the turn of the choice of a provider. */
export const counters = sqliteTable('counters', { id: text('id').primaryKey(), n: integer('n').notNull() })

/** Session → provider, soft: it moves when the provider fails, and stays where it was moved. */
export const bindings = sqliteTable(
  'bindings',
  {
    session: text('session').primaryKey(),
    tenant: text('tenant').notNull(),
    provider: text('provider').notNull(),
    createdAt: integer('created_at').notNull(),
    expiresAt: integer('expires_at').notNull(),
  },
  (t) => [index('bindings_provider').on(t.tenant, t.provider, t.session), index('bindings_expires').on(t.expiresAt)],
)

/** What was spent and what is held of each budget, in millionths of a dollar, or in runs for a limit of concurrency. */
export const allowances = sqliteTable(
  'allowances',
  {
    id: text('id').primaryKey(),
    tenant: text('tenant').notNull(),
    spent: integer('spent').notNull().default(0),
    held: integer('held').notNull().default(0),
    updatedAt: integer('updated_at').notNull(),
  },
  (t) => [index('allowances_tenant').on(t.tenant, t.id)],
)

/** What a run holds of each allowance until it is settled: once, with the commit that ends it. */
export const reservations = sqliteTable(
  'reservations',
  {
    run: text('run').notNull(),
    allowance: text('allowance').notNull(),
    tenant: text('tenant').notNull(),
    unit: text('unit', { enum: ['usd', 'run'] }).notNull(),
    amount: integer('amount').notNull(),
    /** The limit that it was let in under, which one that is raised meanwhile does not change; null: there was none. */
    limitThen: integer('limit_then'),
    charged: integer('charged'),
    /** Nobody knows what it cost, so what it held was charged. */
    estimated: integer('estimated', { mode: 'boolean' }),
    settledAt: integer('settled_at'),
    createdAt: integer('created_at').notNull(),
  },
  (t) => [
    primaryKey({ columns: [t.run, t.allowance] }),
    index('reservations_open').on(t.tenant, t.run).where(sql`settled_at IS NULL`),
    index('reservations_settled').on(t.settledAt).where(sql`settled_at IS NOT NULL`),
  ],
)

/** The theoretical arrival time of each rate limit (GCRA), in milliseconds. */
export const rateLimits = sqliteTable('rate_limits', { id: text('id').primaryKey(), tat: real('tat').notNull() })

/** Who changed what, for good. Secrets are not in it. */
export const audit = sqliteTable(
  'audit',
  {
    id: text('id').primaryKey(),
    at: integer('at').notNull(),
    tenant: text('tenant').notNull(),
    /** Subject and id of the token; `file` for what the config file did. */
    actor: text('actor').notNull(),
    jti: text('jti').notNull(),
    action: text('action').notNull(),
    target: text('target').notNull(),
    before: text('before', { mode: 'json' }).$type<unknown>(),
    after: text('after', { mode: 'json' }).$type<unknown>(),
    requestId: text('request_id'),
  },
  (t) => [index('audit_tenant').on(t.tenant, t.id)],
)

/** Settings of the router as a whole, each under its name. */
export const settings = sqliteTable('settings', {
  name: text('name').primaryKey(),
  value: text('value', { mode: 'json' }).$type<unknown>().notNull(),
  updatedAt: integer('updated_at').notNull(),
})
