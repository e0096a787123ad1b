/**
 * The tables of what belongs to runs and runners without being one of them: what was asked, batches, notices and their
 * webhooks, and the files that runners are to have. Part of schema.ts; the same rules hold.
 */
import { sql } from 'drizzle-orm'
import { index, integer, primaryKey, sqliteTable, text } from 'drizzle-orm/sqlite-core'
import type { ConfigKind } from '../shared/config-files.ts'
import type { WebhookFormat } from '../shared/webhooks.ts'

/** What was asked of a run, from its lease on; before that it is in its spec. Deleted with its session. */
export const prompts = sqliteTable(
  'prompts',
  {
    run: text('run').primaryKey(),
    session: text('session').notNull(),
    /** As JSON: a prompt may hold what is no UTF-8, and what ends a text. */
    text: text('text', { mode: 'json' }).$type<string>().notNull(),
  },
  (t) => [index('prompts_session').on(t.session)],
)

/** Runs that were submitted together. Which ones they are, their rows say. */
export const batches = sqliteTable(
  'batches',
  {
    id: text('id').primaryKey(),
    tenant: text('tenant').notNull(),
    subject: text('subject').notNull(),
    /** How many were asked for. */
    size: integer('size').notNull(),
    /** Those that were not taken: their place, and why. */
    refused: text('refused', { mode: 'json' }).$type<{ index: number; code: string; message: string }[]>().notNull(),
    metadata: text('metadata', { mode: 'json' }).$type<Record<string, string>>(),
    createdAt: integer('created_at').notNull(),
  },
  (t) => [index('batches_tenant').on(t.tenant, t.id)],
)

/** Where a tenant wants to hear of what happens. The id `request` holds the secret for addresses that single requests name. */
export const webhooks = sqliteTable(
  'webhooks',
  {
    tenant: text('tenant').notNull(),
    id: text('id').notNull(),
    /** Null for `request`. */
    url: text('url'),
    sealedSecret: text('sealed_secret').notNull(),
    sealedBy: text('sealed_by').notNull(),
    /** Null: all of them. */
    events: text('events', { mode: 'json' }).$type<string[]>(),
    format: text('format').$type<WebhookFormat>().notNull(),
    enabled: integer('enabled', { mode: 'boolean' }).notNull(),
    createdAt: integer('created_at').notNull(),
    updatedAt: integer('updated_at').notNull(),
  },
  (t) => [primaryKey({ columns: [t.tenant, t.id] }), index('webhooks_sealed_by').on(t.sealedBy)],
)

/**
 * Something that happened and that somebody wants to hear of, written in the commit that made it so. It goes when it has
 * been made into deliveries.
 */
export const notices = sqliteTable(
  'notices',
  {
    /** `<event>/<what it happened to>`: the same is told once. */
    id: text('id').primaryKey(),
    tenant: text('tenant').notNull(),
    event: text('event').notNull(),
    run: text('run'),
    session: text('session'),
    at: integer('at').notNull(),
    /** Its session was deleted meanwhile: what was said in it is not told any more. */
    bare: integer('bare', { mode: 'boolean' }),
  },
  (t) => [index('notices_at').on(t.at), index('notices_session').on(t.session).where(sql`session IS NOT NULL`)],
)

export const DELIVERY_STATES = ['pending', 'delivered', 'failed'] as const

/** One message to one address, and what became of it. */
export const deliveries = sqliteTable(
  'deliveries',
  {
    /** Its `webhook-id`: the same for every attempt. */
    id: text('id').primaryKey(),
    tenant: text('tenant').notNull(),
    /** Null: an address that the request named. */
    webhook: text('webhook'),
    event: text('event').notNull(),
    run: text('run'),
    session: text('session'),
    url: text('url').notNull(),
    /** Scheme, host and port of the address: whatever goes to one receiver waits for its turn together. */
    origin: text('origin').notNull(),
    format: text('format').$type<WebhookFormat>().notNull(),
    /** What is sent, byte for byte in every attempt; null once it is not kept any more. */
    body: text('body'),
    state: text('state', { enum: DELIVERY_STATES }).notNull(),
    attempts: integer('attempts').notNull(),
    /** When it is tried next; null once it is settled. */
    nextAt: integer('next_at'),
    /** Whoever tries it has until then. */
    claimedUntil: integer('claimed_until'),
    /** Of the last attempt: the HTTP status, or what went wrong before there was one. */
    status: integer('status'),
    error: text('error'),
    createdAt: integer('created_at').notNull(),
    lastAt: integer('last_at'),
  },
  (t) => [
    index('deliveries_tenant').on(t.tenant, t.id),
    index('deliveries_run').on(t.run).where(sql`run IS NOT NULL`),
    index('deliveries_due').on(t.nextAt).where(sql`next_at IS NOT NULL`),
    index('deliveries_next').on(t.tenant, t.nextAt).where(sql`next_at IS NOT NULL`),
    index('deliveries_turn').on(t.tenant, t.origin, t.nextAt).where(sql`next_at IS NOT NULL`),
    index('deliveries_claimed').on(t.tenant, t.origin, t.claimedUntil).where(sql`claimed_until IS NOT NULL`),
    index('deliveries_session').on(t.session).where(sql`session IS NOT NULL AND body IS NOT NULL`),
    index('deliveries_kept').on(t.id).where(sql`body IS NOT NULL AND state = 'delivered'`),
  ],
)

/** Files that every runner of a pool has for the CLI of this tenant: agents, skills, rules, CLAUDE.md. */
export const configFiles = sqliteTable(
  'config_files',
  {
    tenant: text('tenant').notNull(),
    pool: text('pool').notNull(),
    kind: text('kind').$type<ConfigKind>().notNull(),
    /** Empty for CLAUDE.md, of which there is one. */
    name: text('name').notNull(),
    content: text('content').notNull(),
    /** The version of the set that it came in with. */
    version: integer('version').notNull(),
    updatedBy: text('updated_by').notNull(),
    createdAt: integer('created_at').notNull(),
    updatedAt: integer('updated_at').notNull(),
  },
  (t) => [primaryKey({ columns: [t.tenant, t.pool, t.kind, t.name] })],
)

/** Raised by every change of a pool's files, in its commit. */
export const configSets = sqliteTable(
  'config_sets',
  { tenant: text('tenant').notNull(), pool: text('pool').notNull(), version: integer('version').notNull() },
  (t) => [primaryKey({ columns: [t.tenant, t.pool] })],
)
