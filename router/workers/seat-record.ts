/** What one runner's object remembers of itself: whose it is, its newest connection, and since when it has none. */
import { and, asc, eq, isNotNull, isNull, sql } from 'drizzle-orm'
import { seats, unsettled } from '../../drizzle/object-schema.ts'
import { runs } from '../../drizzle/schema.ts'
import type { Greeting } from '../../shared/frames.ts'
import type { RunnerIdentity, Store } from '../ports.ts'

export type SeatRow = typeof seats.$inferSelect

const THE_ONE = eq(seats.id, 1)

export class SeatRecord {
  readonly #db: Store['db']

  constructor({ db }: Store) {
    this.#db = db
  }

  async find(): Promise<SeatRow | undefined> {
    const [row] = await this.#db.select().from(seats).where(THE_ONE)
    return row
  }

  async create({ runner, tenant, pool }: RunnerIdentity): Promise<SeatRow> {
    const row: SeatRow = { id: 1, runner, tenant, pool, conns: 0, hello: null, draining: false, cordoned: false, lostAt: null, told: false }
    await this.#db.insert(seats).values(row)
    return row
  }

  async connected(conn: number): Promise<void> {
    await this.#db.update(seats).set({ conns: conn, hello: null, draining: false, lostAt: null, told: false }).where(THE_ONE)
  }

  /** Without a hello there is no connection since `now`, unless it was known before. */
  async present(hello: Greeting | undefined, draining: boolean, now: number): Promise<void> {
    const lostAt = hello ? null : sql`coalesce(${seats.lostAt}, ${now})`
    await this.#db
      .update(seats)
      .set({ hello: hello ?? null, draining, lostAt, told: false })
      .where(THE_ONE)
  }

  async cordon(on: boolean): Promise<void> {
    await this.#db.update(seats).set({ cordoned: on }).where(THE_ONE)
  }

  async told(): Promise<void> {
    await this.#db.update(seats).set({ told: true }).where(THE_ONE)
  }

  async lost(at: number): Promise<void> {
    await this.present(undefined, false, at)
  }

  /** When the run ended whose events are kept the longest. */
  async oldestKept(): Promise<number | undefined> {
    const [row] = await this.#db
      .select({ endedAt: runs.endedAt })
      .from(runs)
      .where(and(isNotNull(runs.endedAt), isNull(runs.prunedAt)))
      .orderBy(asc(runs.endedAt))
      .limit(1)
    return row?.endedAt ?? undefined
  }

  /** Once everybody knows that its events are gone, the shared row of a run is enough. */
  async forgetPruned(): Promise<void> {
    await this.#db
      .delete(runs)
      .where(and(isNotNull(runs.prunedAt), eq(runs.eventBytes, 0), sql`${runs.id} NOT IN (SELECT run FROM ${unsettled})`))
  }
}
