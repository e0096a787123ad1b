/**
 * The outbox of one runner's object: brings the rows of its runs in the shared database up to what the object knows.
 *
 * What is told is the state and not the change, so telling it twice, late, or after something newer does no harm. A row
 * that another runner has by now, under a higher fence, is left alone.
 */
import { and, eq, inArray, isNotNull, isNull, lte, sql, type SQL } from 'drizzle-orm'
import { unsettled } from '../../drizzle/object-schema.ts'
import { runs } from '../../drizzle/schema.ts'
import type { Append } from '../core/runner-core.ts'
import type { Db, Log, RunRow, Statement, Store } from '../ports.ts'
import { chargeOf, settling } from '../store/allowances.ts'
import { endingEvent, runNotice } from '../store/notices.ts'
import type { Given } from '../store/prepared.ts'
import { costColumns } from '../store/run-events.ts'
import { isRefusedStatement } from '../store/statement-error.ts'

/** A state that lasts a moment only is not worth a write. */
const SOON_MS = 1_000
const PAGE = 50

export class Settlement {
  readonly #own: Store
  readonly #shared: () => Store
  readonly #log: Log
  readonly #onTold: (tenant: string) => void
  #settling: Promise<boolean> | undefined
  #timer: ReturnType<typeof setTimeout> | undefined

  /** `onTold`: rows of this tenant are over there by now, and with them perhaps something to be told by webhook. */
  constructor(own: Store, shared: () => Store, log: Log, onTold: (tenant: string) => void = () => undefined) {
    this.#own = own
    this.#shared = shared
    this.#log = log
    this.#onTold = onTold
  }

  /** What belongs to the commit of an append that changes the row of its run. */
  readonly owed = ({ run, started, running, ending }: Append): Statement[] =>
    started || running || ending ? [this.#touch(run)] : []

  async owe(run: string): Promise<void> {
    await this.#own.batch([this.#touch(run)])
  }

  /** Runs whose events were pruned since then. */
  async owePruned(since: number): Promise<void> {
    await this.#own.db.run(sql`
      INSERT INTO ${unsettled} (run, version) SELECT id, 1 FROM ${runs} WHERE pruned_at >= ${since}
      ON CONFLICT (run) DO UPDATE SET version = version + 1`)
  }

  /**
   * Of these ended runs nobody is to read the events any more, as the shared rows say. What becomes of them here is told
   * back; of those that are not here nothing is left to delete.
   */
  async forget(ids: readonly string[], now: number): Promise<void> {
    const { db } = this.#own
    const known = await db
      .update(runs)
      .set({ prunedAt: sql`coalesce(pruned_at, ${now})` })
      .where(and(inArray(runs.id, [...ids]), isNotNull(runs.endedAt)))
      .returning({ id: runs.id })
    if (known.length > 0) await this.#own.batch(known.map(({ id }) => this.#touch(id)))
    const gone = ids.filter((id) => !known.some((run) => run.id === id))
    const over = and(inArray(runs.id, gone), isNotNull(runs.prunedAt))
    if (gone.length > 0) await this.#shared().db.update(runs).set({ eventBytes: 0 }).where(over)
  }

  async pending(): Promise<boolean> {
    return (await this.#own.db.select({ run: unsettled.run }).from(unsettled).limit(1)).length > 0
  }

  /** Within a second or so. */
  soon(): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined
      void this.settle()
    }, SOON_MS)
  }

  /** Everything that was owed when it was called. False: something is left, for a later attempt. */
  async settle(): Promise<boolean> {
    // One that is under way may have read before the latest change.
    await this.#settling
    this.#settling ??= this.#settle().finally(() => (this.#settling = undefined))
    return this.#settling
  }

  #touch(run: string): Statement {
    return this.#own.db
      .insert(unsettled)
      .values({ run, version: 1 })
      .onConflictDoUpdate({ target: unsettled.run, set: { version: sql`${unsettled.version} + 1` } })
  }

  /** One that the database refuses for what it is must not keep the others from being told. */
  async #tell(rows: readonly RunRow[]): Promise<void> {
    const shared = this.#shared()
    try {
      await tellAll(shared, rows)
    } catch (error) {
      if (!isRefusedStatement(error)) throw error
      for (const row of rows) await this.#tellOne(shared, row)
    }
  }

  async #tellOne(shared: Store, row: RunRow): Promise<void> {
    for (const [attempt, wording] of [row, bare(row)].entries()) {
      try {
        await tellAll(shared, [wording])
        return
      } catch (error) {
        if (!isRefusedStatement(error)) throw error
        const rest = attempt === 0 ? 'only that it is over is told' : 'it is told no more'
        this.#log.error({ err: error, run: row.id }, `the index of runs refuses what became of a run; ${rest}`)
      }
    }
  }

  async #settle(): Promise<boolean> {
    clearTimeout(this.#timer)
    this.#timer = undefined
    const { db } = this.#own
    try {
      for (;;) {
        const owed = await db
          .select({ version: unsettled.version, row: runs })
          .from(unsettled)
          .innerJoin(runs, eq(runs.id, unsettled.run))
          .limit(PAGE)
        if (owed.length === 0) break
        await this.#tell(owed.map(({ row }) => row))
        for (const tenant of new Set(owed.map(({ row }) => row.tenant))) this.#onTold(tenant)
        await this.#own.batch(
          owed.map(({ version, row }) =>
            db.delete(unsettled).where(and(eq(unsettled.run, row.id), eq(unsettled.version, version))),
          ),
        )
      }
      // Of runs that are not here any more there is nothing to tell.
      await db.delete(unsettled).where(sql`${unsettled.run} NOT IN (SELECT id FROM ${runs})`)
      return true
    } catch (error) {
      this.#log.warn({ err: error }, 'the index of runs could not be brought up to date; it is tried again')
      return false
    }
  }
}

/** What belongs over there of these rows, the charge of an ending included. */
function tellAll(shared: Store, rows: readonly RunRow[]): Promise<unknown> {
  return shared.batch(rows.flatMap((row) => [...settled(shared.db, row), tell(shared.db, row)]))
}

/** A row without what was said of it: that its run is over, and nothing that a database could refuse. */
function bare(row: RunRow): RunRow {
  const nothing = { costUsd: null, usage: null, numTurns: null, durationMs: null, resultSeq: null, model: null, eventBytes: null }
  if (row.endedAt === null) return { ...row, ...nothing }
  return { ...row, ...nothing, state: 'lost', isError: true, errorCode: 'lost', errorMessage: 'its outcome could not be stored' }
}

function tell(db: Db, row: RunRow): Statement {
  return (
    db
      .update(runs)
      .set(told(row))
      // An ended row does not change any more, but for what is kept of it.
      .where(
        and(
          eq(runs.id, row.id),
          eq(runs.runner, row.runner ?? ''),
          lte(runs.fence, row.fence),
          row.prunedAt === null ? isNull(runs.endedAt) : undefined,
        ),
      )
      .returning({ id: runs.id })
  )
}

const isFirst = (given: Given<{ runner: string | null; fence: number }>) => sql`runner = ${given('runner')} AND fence <= ${given('fence')} AND ended_at IS NULL`
const settle = settling(isFirst)
const ended = runNotice(isFirst)

/** The ledger is over there: what a run cost is charged in the batch that tells its end, and only by the first to tell it. */
function settled(db: Db, { id: run, runner, fence, state, endedAt: now, costUsd, costEstimated }: RunRow): Statement[] {
  if (now === null) return []
  const event = endingEvent(state)
  return [
    ...settle(db, { run, runner, fence, now, ...chargeOf(costUsd ?? undefined, costEstimated === true) }),
    ...(event ? [db.run(ended({ run, runner, fence, event, now })) as Statement] : []),
  ]
}

const TOLD = [
  ...(['state', 'fence', 'provider', 'model', 'startedAt', 'endedAt', 'lastSeq', 'resultSeq', 'isError', 'errorCode'] as const),
  ...(['errorMessage', 'usage', 'numTurns', 'durationMs', 'eventBytes', 'prunedAt'] as const),
]

/** What changes of a row from its lease on. The wish to end it is written there first, so it is not told back. */
function told(row: RunRow): Partial<Omit<RunRow, 'costUsd'>> & { costUsd?: number | SQL } {
  // Where nobody knows the cost, what was reserved stands for it, over there.
  const cost = row.costUsd === null ? {} : costColumns(row.costUsd, row.costEstimated === true)
  return { ...Object.fromEntries(TOLD.map((field) => [field, row[field]])), ...cost, spec: null }
}
