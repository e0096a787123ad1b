/**
 * Breakers and counts of providers: every move is one statement, so that of many replicas one makes it. Who is to blame,
 * and until when, is decided in core/breaker.
 *
 * A row of a model is there only while its breaker is not closed: names of models come from runs, and must not pile up.
 */
import { and, eq, lt, lte, ne, or, sql, type SQL } from 'drizzle-orm'
import { providerHealth, providers } from '../../drizzle/schema.ts'
import type { Db, Statement, Store } from '../ports.ts'

export type HealthRow = typeof providerHealth.$inferSelect

/** Open breakers of models that one provider can have. */
export const MAX_MODELS = 64
/** A model that nobody asked for again for so long after its breaker was due is forgotten. */
const FORGET_MODEL_MS = 3_600_000

/** Of which provider, and for breakers of which model. */
export type HealthPlace = { readonly tenant: string; readonly provider: string; readonly model: string }
/** The time that a claim set: it names the claim, so that only who made it can settle it. */
export type Probe = { readonly probeUntil: number | undefined }

export function readHealth(db: Db, tenant: string): Promise<HealthRow[]> {
  return db.select().from(providerHealth).where(eq(providerHealth.tenant, tenant))
}

/** Closes the breakers of a provider, also those that wait for an admin. What was counted of it stays. */
export async function resetHealth(store: Store, tenant: string, provider: string, now: number, audit: Statement): Promise<void> {
  await store.batch([...resetStatements(store.db, tenant, provider, now), audit])
}

export function resetStatements(db: Db, tenant: string, provider: string, now: number): Statement[] {
  const its = of({ tenant, provider })
  return [
    db.delete(providerHealth).where(and(its, ne(providerHealth.model, ''))),
    db.update(providerHealth).set({ ...CLOSED, updatedAt: now }).where(its),
  ]
}

/** Everything of a provider that is due to be tried is tried by the caller until then. Resolves to the models; '' is the provider. */
export async function claimProbe(db: Db, tenant: string, provider: string, now: number, probeUntil: number): Promise<string[]> {
  const { state, openUntil, probeUntil: claimed } = providerHealth
  const due = or(and(eq(state, 'open'), lte(openUntil, now)), and(eq(state, 'half_open'), lte(claimed, now)))
  const rows = await db
    .update(providerHealth)
    .set({ state: 'half_open', probeUntil, updatedAt: now })
    .where(and(of({ tenant, provider }), due))
    .returning({ model: providerHealth.model })
  return rows.map((r) => r.model)
}

/** Nothing came of the probe: the next run may try. */
export async function handOnProbe(db: Db, tenant: string, provider: string, probeUntil: number): Promise<void> {
  await db
    .update(providerHealth)
    .set({ state: 'open', probeUntil: null })
    .where(and(of({ tenant, provider }), eq(providerHealth.state, 'half_open'), eq(providerHealth.probeUntil, probeUntil)))
}

/** It answered. Closes what this run was to try, or what is due; a breaker that was opened for a time stays open for that time. */
export function recordSuccess(db: Db, place: HealthPlace, { probeUntil }: Probe, now: number): Statement[] {
  const { state, openUntil } = providerHealth
  const settled = or(mine(probeUntil), and(eq(state, 'open'), lte(openUntil, now)))
  const its = of(place)
  return [
    db
      .update(providerHealth)
      .set({ ...CLOSED, updatedAt: now })
      .where(and(its, eq(providerHealth.model, ''), or(eq(state, 'closed'), settled))),
    db.delete(providerHealth).where(and(its, ne(providerHealth.model, ''), eq(providerHealth.model, place.model), settled)),
  ]
}

/**
 * One more failure of the provider's own making. Opens at the `threshold`th in a row, or when it is who tried that failed; a
 * straggler neither ends the probe of another run nor prolongs the time of a breaker that is open.
 */
export function recordFailure(
  db: Db,
  place: Omit<HealthPlace, 'model'>,
  { threshold, until, reason, probeUntil }: Probe & { readonly threshold: number; readonly until: number; readonly reason: string },
  now: number,
): Statement {
  const { state, failures, openUntil } = providerHealth
  const stays = sql`((${state} = 'half_open' AND NOT ${mine(probeUntil)}) OR (${state} = 'open' AND (${openUntil} IS NULL OR ${openUntil} > ${now})))`
  const waits = sql`(${state} = 'closed' AND ${failures} + 1 < ${threshold})`
  const opens = threshold <= 1
  return upsert(db, { ...place, model: '' }, now, {
    first: { state: opens ? 'open' : 'closed', openUntil: opens ? until : null, reason: opens ? reason : null },
    next: {
      state: sql`CASE WHEN ${stays} THEN ${state} WHEN ${waits} THEN 'closed' ELSE 'open' END`,
      open_until: sql`CASE WHEN ${stays} THEN ${openUntil} WHEN ${waits} THEN NULL ELSE ${until} END`,
      probe_until: sql`CASE WHEN ${stays} THEN ${providerHealth.probeUntil} END`,
      reason: sql`CASE WHEN ${stays} THEN ${providerHealth.reason} WHEN ${waits} THEN NULL ELSE ${reason} END`,
    },
  })
}

/** Opens it, until then at least; null: until an admin acts, which nothing that follows shortens. */
export function recordOpening(db: Db, place: HealthPlace, { until, reason }: { until: number | null; reason: string }, now: number): Statement[] {
  const { state, openUntil } = providerHealth
  const forGood = sql`(${state} = 'open' AND ${openUntil} IS NULL)`
  const open = upsert(db, place, now, {
    first: { state: 'open', openUntil: until, reason },
    next: {
      state: sql`'open'`,
      open_until: until === null ? sql`NULL` : sql`CASE WHEN ${forGood} THEN NULL ELSE max(${until}, coalesce(${openUntil}, 0)) END`,
      probe_until: sql`NULL`,
      reason: sql`CASE WHEN ${forGood} THEN ${providerHealth.reason} ELSE ${reason} END`,
    },
  })
  if (place.model === '') return [open]
  const old = and(of(place), ne(providerHealth.model, ''), lt(providerHealth.openUntil, now - FORGET_MODEL_MS))
  return [db.delete(providerHealth).where(old), open, countFailed(db, place, now)]
}

/** Requests that went well, as they were summed up in memory. `latency`: what they leave of the moving average, and what they add to it. */
export type Tally = {
  readonly requests: number
  readonly inputTokens: number
  readonly outputTokens: number
  readonly latency: { readonly keeps: number; readonly adds: number }
}

export function addTally(db: Db, place: Omit<HealthPlace, 'model'>, tally: Tally, now: number): Statement {
  const { keeps, adds } = tally.latency
  // The average of a provider that has none yet begins with these.
  const latency = keeps === 1 ? null : adds / (1 - keeps)
  return db.run(sql`
    INSERT INTO ${providerHealth} (tenant, provider, model, requests, latency_ms, input_tokens, output_tokens, updated_at)
    SELECT ${place.tenant}, ${place.provider}, '', ${tally.requests}, ${latency}, ${tally.inputTokens}, ${tally.outputTokens}, ${now}
    WHERE ${exists(place)}
    ON CONFLICT (tenant, provider, model) DO UPDATE SET requests = requests + excluded.requests,
      latency_ms = coalesce(latency_ms * ${keeps} + ${adds}, excluded.latency_ms),
      input_tokens = input_tokens + excluded.input_tokens, output_tokens = output_tokens + excluded.output_tokens,
      updated_at = excluded.updated_at`) as Statement
}

type Columns = Record<'state' | 'open_until' | 'probe_until' | 'reason', SQL>

/** A failed request of a provider that is still there. */
function upsert(
  db: Db,
  place: HealthPlace,
  now: number,
  { first, next }: { first: { state: string; openUntil: number | null; reason: string | null }; next: Columns },
): Statement {
  const { tenant, provider, model } = place
  // Of a model only the breaker is kept; what is counted is the provider's.
  const counted = model === '' ? 1 : 0
  const others = sql`SELECT count(*) FROM ${providerHealth} WHERE tenant = ${tenant} AND provider = ${provider} AND model NOT IN ('', ${model})`
  const room = sql`(${model} = '' OR (${others}) < ${MAX_MODELS})`
  return db.run(sql`
    INSERT INTO ${providerHealth} (tenant, provider, model, state, failures, open_until, reason, requests, failed, updated_at)
    SELECT ${tenant}, ${provider}, ${model}, ${first.state}, 1, ${first.openUntil}, ${first.reason}, ${counted}, ${counted}, ${now}
    WHERE ${exists(place)} AND ${room}
    ON CONFLICT (tenant, provider, model) DO UPDATE SET failures = failures + 1, requests = requests + ${counted}, failed = failed + ${counted},
      state = ${next.state}, open_until = ${next.open_until}, probe_until = ${next.probe_until}, reason = ${next.reason}, updated_at = ${now}`) as Statement
}

/** A request that failed, whose provider as a whole nobody blames. */
export function countFailed(db: Db, place: Omit<HealthPlace, 'model'>, now: number): Statement {
  return db.run(sql`
    INSERT INTO ${providerHealth} (tenant, provider, model, requests, failed, updated_at)
    SELECT ${place.tenant}, ${place.provider}, '', 1, 1, ${now} WHERE ${exists(place)}
    ON CONFLICT (tenant, provider, model) DO UPDATE SET requests = requests + 1, failed = failed + 1, updated_at = ${now}`) as Statement
}

const CLOSED = { state: 'closed', failures: 0, openUntil: null, probeUntil: null, reason: null } as const

const of = ({ tenant, provider }: Omit<HealthPlace, 'model'>) => and(eq(providerHealth.tenant, tenant), eq(providerHealth.provider, provider))

const mine = (probeUntil: number | undefined): SQL =>
  probeUntil === undefined ? sql`FALSE` : sql`(${providerHealth.state} = 'half_open' AND ${providerHealth.probeUntil} = ${probeUntil})`

/** A runner may speak of a provider that was deleted since, or never was. */
const exists = ({ tenant, provider }: Omit<HealthPlace, 'model'>) => sql`EXISTS (SELECT 1 FROM ${providers} WHERE tenant = ${tenant} AND id = ${provider})`
