/**
 * Breakers and counts of providers: every move is one statement, so that of many replicas one makes it. Who is to blame,
 * and until when, is decided in core/breaker.
 *
 * A row of a model is there only while its breaker is not closed: names of models come from runs, and must not pile up.
 */
import { and, eq, inArray, lt, lte, ne, or, sql, type SQL } from 'drizzle-orm'
import { providerHealth, providers } from '../../drizzle/schema.ts'
import type { Db, Statement, Store } from '../ports.ts'

export type HealthRow = typeof providerHealth.$inferSelect

/** Open breakers of models that one provider can have. */
export const MAX_MODELS = 64
/** A model that nobody asked for again for so long after its breaker was due is forgotten. */
const FORGET_MODEL_MS = 3_600_000

type Of = { readonly tenant: string; readonly provider: string }
/** Of which provider, as it was when it was asked, and for breakers of which model. What is said of an older version moves nothing. */
export type HealthPlace = Of & { readonly version: number; readonly model: string }

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

/** What is due of these models (`''` is the provider) is tried by the caller until then. Resolves to what it has claimed. */
export async function claimProbe(db: Db, tenant: string, provider: string, now: number, probeUntil: number, models: readonly string[]): Promise<string[]> {
  const rows = await db
    .update(providerHealth)
    .set({ state: 'half_open', probeUntil, updatedAt: now })
    .where(and(of({ tenant, provider }), inArray(providerHealth.model, [...models]), isDue(now)))
    .returning({ model: providerHealth.model })
  return rows.map((r) => r.model)
}

/** Of a claim, named by its time, what nothing came of: the next run may try. */
export function handOnProbe(db: Db, tenant: string, provider: string, probeUntil: number): Statement {
  return db
    .update(providerHealth)
    .set({ state: 'open', probeUntil: null })
    .where(and(of({ tenant, provider }), isClaimedUntil(probeUntil)))
}

/** `claimed`: the run was to try it, be its claim in time or not. `headers`: a good answer has begun; `end`: it is whole. */
export type Success = { readonly stage: 'headers' | 'end'; readonly claimed: boolean }

/**
 * It answered. An answer that begins closes what is due, and both close what its run was to try: that was asked after the
 * breaker opened, whoever tries it by now. Only a whole one ends a row of failures, or answers that all break off would never
 * be one. A breaker that was opened for a time stays open for that time.
 */
export function recordSuccess(db: Db, place: HealthPlace, { stage, claimed }: Success, now: number): Statement[] {
  const { state, model } = providerHealth
  const settled = or(claimed ? eq(state, 'half_open') : undefined, stage === 'headers' ? isDue(now) : undefined) ?? sql`FALSE`
  const its = and(of(place), exists(place))
  return [
    db
      .update(providerHealth)
      .set({ ...CLOSED, updatedAt: now })
      .where(and(its, eq(model, ''), or(stage === 'end' ? eq(state, 'closed') : undefined, settled))),
    db.delete(providerHealth).where(and(its, ne(model, ''), eq(model, place.model), settled)),
  ]
}

export type Failure = {
  /** How many there were in a row, without a success in between. */
  readonly count: number
  readonly threshold: number
  readonly until: number
  readonly reason: string
  /** Names the claim of the run; only who has it ends a probe. */
  readonly probeUntil: number | undefined
}

/**
 * Failures of the provider's own making. Opens at the `threshold`th in a row, or when it is who tried that failed; a
 * straggler neither ends the probe of another run nor prolongs the time of a breaker that is open.
 */
export function recordFailure(db: Db, place: Omit<HealthPlace, 'model'>, { count, threshold, until, reason, probeUntil }: Failure, now: number): Statement {
  const { state, failures, openUntil } = providerHealth
  const isMine = probeUntil === undefined ? sql`FALSE` : sql`(${isClaimedUntil(probeUntil)})`
  const stays = sql`((${state} = 'half_open' AND NOT ${isMine}) OR (${state} = 'open' AND (${openUntil} IS NULL OR ${openUntil} > ${now})))`
  const waits = sql`(${state} = 'closed' AND ${failures} + ${count} < ${threshold})`
  const opens = threshold <= count
  return upsert(db, { ...place, model: '' }, count, now, {
    first: { state: opens ? 'open' : 'closed', openUntil: opens ? until : null, reason: opens ? reason : null },
    next: {
      state: sql`CASE WHEN ${stays} THEN ${state} WHEN ${waits} THEN 'closed' ELSE 'open' END`,
      open_until: sql`CASE WHEN ${stays} THEN ${openUntil} WHEN ${waits} THEN NULL ELSE ${until} END`,
      probe_until: sql`CASE WHEN ${stays} THEN ${providerHealth.probeUntil} END`,
      reason: sql`CASE WHEN ${stays} THEN ${providerHealth.reason} WHEN ${waits} THEN NULL ELSE ${reason} END`,
    },
  })
}

export type Opening = Pick<Failure, 'count' | 'reason'> & { readonly until: number | null }

/** Opens it, until then at least; null: until an admin acts, which nothing that follows shortens. */
export function recordOpening(db: Db, place: HealthPlace, { count, until, reason }: Opening, now: number): Statement[] {
  const { state, openUntil } = providerHealth
  const forGood = sql`(${state} = 'open' AND ${openUntil} IS NULL)`
  const open = upsert(db, place, count, now, {
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
  return [db.delete(providerHealth).where(old), open]
}

/** Whether one more model of a provider with these rows would be remembered. */
export function hasRoom(rows: readonly HealthRow[], now: number): boolean {
  const kept = rows.filter((row) => row.model !== '' && !(row.openUntil !== null && row.openUntil < now - FORGET_MODEL_MS))
  return kept.length < MAX_MODELS
}

/** Requests as they were summed up in memory, `failed` ones among them. `latency`: what they leave of the moving average, and what they add to it. */
export type Tally = {
  readonly requests: number
  readonly failed: number
  readonly inputTokens: number
  readonly outputTokens: number
  readonly latency: { readonly keeps: number; readonly adds: number }
}

export function addTally(db: Db, place: Of, tally: Tally, now: number): Statement {
  const { keeps, adds } = tally.latency
  // The average of a provider that has none yet begins with these.
  const latency = keeps === 1 ? null : adds / (1 - keeps)
  return db.run(sql`
    INSERT INTO ${providerHealth} (tenant, provider, model, requests, failed, latency_ms, input_tokens, output_tokens, updated_at)
    SELECT ${place.tenant}, ${place.provider}, '', ${tally.requests}, ${tally.failed}, ${latency}, ${tally.inputTokens}, ${tally.outputTokens}, ${now}
    WHERE ${exists(place)}
    ON CONFLICT (tenant, provider, model) DO UPDATE SET requests = requests + excluded.requests, failed = failed + excluded.failed,
      latency_ms = coalesce(latency_ms * ${keeps} + ${adds}, excluded.latency_ms),
      input_tokens = input_tokens + excluded.input_tokens, output_tokens = output_tokens + excluded.output_tokens,
      updated_at = excluded.updated_at`) as Statement
}

type Columns = Record<'state' | 'open_until' | 'probe_until' | 'reason', SQL>

/** Moves the breaker of a provider that is still there. What is counted of it is none of its business. */
function upsert(
  db: Db,
  place: HealthPlace,
  count: number,
  now: number,
  { first, next }: { first: { state: string; openUntil: number | null; reason: string | null }; next: Columns },
): Statement {
  const { tenant, provider, model } = place
  const others = sql`SELECT count(*) FROM ${providerHealth} WHERE tenant = ${tenant} AND provider = ${provider} AND model NOT IN ('', ${model})`
  const room = sql`(${model} = '' OR (${others}) < ${MAX_MODELS})`
  return db.run(sql`
    INSERT INTO ${providerHealth} (tenant, provider, model, state, failures, open_until, reason, updated_at)
    SELECT ${tenant}, ${provider}, ${model}, ${first.state}, ${count}, ${first.openUntil}, ${first.reason}, ${now}
    WHERE ${exists(place)} AND ${room}
    ON CONFLICT (tenant, provider, model) DO UPDATE SET failures = failures + ${count},
      state = ${next.state}, open_until = ${next.open_until}, probe_until = ${next.probe_until}, reason = ${next.reason}, updated_at = ${now}`) as Statement
}

const CLOSED = { state: 'closed', failures: 0, openUntil: null, probeUntil: null, reason: null } as const

const of = ({ tenant, provider }: Of) => and(eq(providerHealth.tenant, tenant), eq(providerHealth.provider, provider))

const isClaimedUntil = (probeUntil: number) => and(eq(providerHealth.state, 'half_open'), eq(providerHealth.probeUntil, probeUntil))

/** Its time is over, or that of who tried it last. */
function isDue(now: number): SQL | undefined {
  const { state, openUntil, probeUntil } = providerHealth
  return or(and(eq(state, 'open'), lte(openUntil, now)), and(eq(state, 'half_open'), lte(probeUntil, now)))
}

/** A runner may speak of a provider that was deleted since, was given another key, or never was. */
function exists({ tenant, provider, version }: Of & { readonly version?: number }): SQL {
  const current = version === undefined ? sql`TRUE` : sql`version = ${version}`
  return sql`EXISTS (SELECT 1 FROM ${providers} WHERE tenant = ${tenant} AND id = ${provider} AND ${current})`
}
