/**
 * Every table of the router. One schema for libSQL, D1 and Durable Object SQLite, so nothing here is a dialect of one.
 * Times are milliseconds since 1970 of the router's clock; they order and prune, they never decide a lease.
 */
import { sql } from 'drizzle-orm'
import type { Needs, PolicyView } from '../shared/policy.ts'
import type { RunWebhook } from '../shared/webhooks.ts'
import type { RunSpec } from '../shared/run-spec.ts'
import { customType, index, integer, primaryKey, real, sqliteTable, text, uniqueIndex } from 'drizzle-orm/sqlite-core'

export * from './resources.ts'
export * from './tenancy.ts'

/** A blob without Node's Buffer. libSQL gives an ArrayBuffer, D1 a list of numbers. */
const bytes = customType<{ data: Uint8Array; driverData: Uint8Array | ArrayBuffer | number[] }>({
  dataType: () => 'blob',
  fromDriver: (value) => (value instanceof Uint8Array ? value : new Uint8Array(value)),
})

/** One-time tokens that let a machine become a runner; only their SHA-256 is kept. */
export const enrolments = sqliteTable('enrolments', {
  hash: text('hash').primaryKey(),
  tenant: text('tenant').notNull(),
  pool: text('pool').notNull(),
  createdAt: integer('created_at').notNull(),
  expiresAt: integer('expires_at').notNull(),
  usedAt: integer('used_at'),
})

/** Ids of signed assertions that were used, until they expire: each is good for one token. */
export const assertions = sqliteTable('assertions', {
  jti: text('jti').primaryKey(),
  expiresAt: integer('expires_at').notNull(),
})

export const runners = sqliteTable(
  'runners',
  {
    id: text('id').primaryKey(),
    tenant: text('tenant').notNull(),
    pool: text('pool').notNull(),
    name: text('name').notNull(),
    labels: text('labels', { mode: 'json' }).$type<Record<string, string>>().notNull(),
    /** Public halves only: Ed25519 to check its signature, P-256 to seal secrets to it. */
    signingJwk: text('signing_jwk', { mode: 'json' }).$type<Record<string, unknown>>().notNull(),
    sealingJwk: text('sealing_jwk', { mode: 'json' }).$type<Record<string, unknown>>().notNull(),
    createdAt: integer('created_at').notNull(),
    lastSeenAt: integer('last_seen_at'),
    /** What it said when it connected, null when it left: a hint, as a host that dies takes nothing back. */
    online: text('online', { mode: 'json' }).$type<{ slots: number; cli: string | null; agent?: string; policy?: PolicyView }>(),
    /** An admin wants it to take nothing new. */
    drainedAt: integer('drained_at'),
    revokedAt: integer('revoked_at'),
  },
  (t) => [
    index('runners_tenant').on(t.tenant, t.pool),
    // What admins want of runners is asked every two seconds, and of most they want nothing.
    index('runners_drained').on(t.id).where(sql`drained_at IS NOT NULL`),
    index('runners_revoked').on(t.revokedAt).where(sql`revoked_at IS NOT NULL`),
  ],
)

export const SESSION_STATUSES = ['active', 'archived', 'closed'] as const

/**
 * A conversation of the CLI. Its transcript is on the disk of `runner`, under `cwd`. One that somebody has prepared has no
 * runner until its first run is leased, and its `cwd` is what that run is to ask for.
 */
export const sessions = sqliteTable(
  'sessions',
  {
    id: text('id').primaryKey(),
    tenant: text('tenant').notNull(),
    runner: text('runner'),
    cwd: text('cwd'),
    /** The CLI's own id of it, where that is another one. */
    cliId: text('cli_id'),
    /** Where the first run of a prepared one goes; null: wherever its token leads. */
    pool: text('pool'),
    title: text('title'),
    status: text('status', { enum: SESSION_STATUSES }).notNull().default('active'),
    /** The model that a run of it uses which names none; the one that was used last where nobody has set it. */
    model: text('model'),
    metadata: text('metadata', { mode: 'json' }).$type<Record<string, unknown>>(),
    /** The run that is to be the first of a prepared one, and since when: there can only be one. */
    opener: text('opener'),
    openerAt: integer('opener_at'),
    createdAt: integer('created_at').notNull(),
    updatedAt: integer('updated_at').notNull(),
    lastRunAt: integer('last_run_at').notNull(),
  },
  (t) => [index('sessions_tenant').on(t.tenant, t.lastRunAt), index('sessions_by_age').on(t.lastRunAt), index('sessions_by_cli_id').on(t.tenant, t.cliId)],
)

/** Whether a live run has a connection is not kept here: the router that holds the socket knows, and a restart asks anew. */
export const RUN_STATES = ['queued', 'offered', 'leased', 'running', 'succeeded', 'failed', 'cancelled', 'lost'] as const

export const runs = sqliteTable(
  'runs',
  {
    id: text('id').primaryKey(),
    tenant: text('tenant').notNull(),
    subject: text('subject').notNull(),
    /** The token that it was submitted with. */
    token: text('token').notNull(),
    session: text('session').notNull(),
    pool: text('pool').notNull(),
    runner: text('runner'),
    state: text('state', { enum: RUN_STATES }).notNull(),
    fence: integer('fence').notNull().default(0),
    /** Set when somebody asked for the end of the run; it decides the ending before the exit status does. */
    cancelRequestedAt: integer('cancel_requested_at'),
    /** Where it may run, for as long as it waits: labels, and the runner that its session is bound to. */
    labels: text('labels', { mode: 'json' }).$type<Record<string, string>>().notNull(),
    bound: text('bound'),
    /** What of it the owner of a machine may forbid, so that it is not offered in vain. */
    needs: text('needs', { mode: 'json' }).$type<Needs>().notNull(),
    /** 1 to 10, the highest first. */
    priority: integer('priority').notNull(),
    /** Waiting ends here. */
    queueUntil: integer('queue_until').notNull(),
    /** What it is asked to do, kept until it has started; null from then on. */
    spec: text('spec', { mode: 'json' }).$type<RunSpec>(),
    timeoutS: integer('timeout_s').notNull(),
    /** Milliseconds after its last subscriber left; null: it goes on without any. */
    onDisconnectMs: integer('on_disconnect_ms'),
    provider: text('provider'),
    model: text('model'),
    metadata: text('metadata', { mode: 'json' }).$type<Record<string, string>>(),
    /** The dialect that it was asked for in. */
    origin: text('origin').notNull().default('native'),
    batch: text('batch'),
    batchIndex: integer('batch_index'),
    /** Nobody waits for it: its dialect lists it as a task, also when what was said in it is gone. Null: no. */
    task: integer('task', { mode: 'boolean' }),
    /** Who is told of it by name, besides the webhooks of its tenant. */
    webhook: text('webhook', { mode: 'json' }).$type<RunWebhook>(),
    /** The real directory that it works in, from its lease on. */
    cwd: text('cwd'),
    createdAt: integer('created_at').notNull(),
    startedAt: integer('started_at'),
    endedAt: integer('ended_at'),
    /** The newest event that is durable; the terminal one once `endedAt` is set. */
    lastSeq: integer('last_seq').notNull().default(0),
    resultSeq: integer('result_seq'),
    isError: integer('is_error', { mode: 'boolean' }),
    errorCode: text('error_code'),
    errorMessage: text('error_message'),
    costUsd: real('cost_usd'),
    /** Nobody counted what it cost, so what it had reserved stands for it. */
    costEstimated: integer('cost_estimated', { mode: 'boolean' }),
    /** Every provider that it might have used was out of order when it was given this one. */
    degraded: integer('degraded', { mode: 'boolean' }),
    usage: text('usage', { mode: 'json' }).$type<{
      input_tokens: number
      output_tokens: number
      cache_creation_input_tokens: number
      cache_read_input_tokens: number
    }>(),
    numTurns: integer('num_turns'),
    durationMs: integer('duration_ms'),
    /** Size of its events, once it has ended. */
    eventBytes: integer('event_bytes'),
    /** Its events are no longer kept. They are being deleted for as long as `eventBytes` is not 0. */
    prunedAt: integer('pruned_at'),
  },
  (t) => [
    index('runs_tenant').on(t.tenant, t.id),
    // One turn at a time per session: two turns would fork its transcript and lose one of them.
    uniqueIndex('runs_session_turn').on(t.session).where(sql`state IN ('offered', 'leased', 'running')`),
    index('runs_session').on(t.session, t.id),
    index('runs_batch').on(t.batch, t.batchIndex).where(sql`batch IS NOT NULL`),
    // In the order of their list, with all that counting them asks for.
    index('runs_tasks').on(t.tenant, sql`"priority" DESC`, t.id, t.state, t.costUsd).where(sql`task = 1`),
    // What statistics sum up.
    index('runs_ended').on(t.tenant, t.endedAt).where(sql`ended_at IS NOT NULL`),
    // Only live rows: what a runner or a restarted router has to take up again.
    index('runs_live').on(t.runner).where(sql`ended_at IS NULL`),
    index('runs_queued').on(t.createdAt).where(sql`state = 'queued'`),
    // With all that their sum asks for, so that it does not have to look at the rows.
    index('runs_kept').on(t.endedAt, t.eventBytes, t.prunedAt).where(sql`ended_at IS NOT NULL AND pruned_at IS NULL`),
    index('runs_pruning').on(t.prunedAt).where(sql`pruned_at IS NOT NULL AND event_bytes > 0`),
  ],
)

/**
 * The event log. A row is a chunk: up to 64 lines as they came (`ev`), one mark (`mark`), or a slice of one long line
 * (`part`). The key makes a second writer of the same (run, seq) fail instead of doubling it.
 */
export const runEvents = sqliteTable(
  'run_events',
  {
    run: text('run').notNull(),
    first: integer('first').notNull(),
    part: integer('part').notNull().default(0),
    parts: integer('parts').notNull().default(1),
    count: integer('count').notNull(),
    kind: text('kind', { enum: ['ev', 'part', 'mark'] }).notNull(),
    bytes: bytes('bytes').notNull(),
  },
  (t) => [primaryKey({ columns: [t.run, t.first, t.part] })],
)

/** Submissions by their `Idempotency-Key`: the same key and body lead to the same run. */
export const idempotency = sqliteTable(
  'idempotency',
  {
    tenant: text('tenant').notNull(),
    key: text('key').notNull(),
    /** SHA-256 of the parsed body. */
    hash: text('hash').notNull(),
    run: text('run').notNull(),
    expiresAt: integer('expires_at').notNull(),
  },
  (t) => [primaryKey({ columns: [t.tenant, t.key] }), index('idempotency_run').on(t.run), index('idempotency_expires').on(t.expiresAt)],
)

/** One row that the readiness check rewrites: only a commit proves that the database takes writes. */
export const probes = sqliteTable('probes', { id: integer('id').primaryKey(), at: integer('at').notNull() })
