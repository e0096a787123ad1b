import { eq, sql } from 'drizzle-orm'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { unsettled } from '../../drizzle/object-schema.ts'
import { runs } from '../../drizzle/schema.ts'
import { openLog, type LogRig } from '../../test/kit/log.ts'
import { Fault } from '../../shared/faults.ts'
import type { Log, Store } from '../ports.ts'
import { markedByRunner } from '../store/retention.ts'
import { Settlement } from './settlement.ts'

let own: LogRig
let shared: LogRig
let said: string[]
beforeEach(async () => {
  own = await openLog()
  shared = await openLog()
  said = []
  await own.database.db.run(sql`CREATE TABLE unsettled (run TEXT PRIMARY KEY, version INTEGER NOT NULL)`)
})
afterEach(async () => {
  await own.close()
  await shared.close()
})

const hear = (_fields: object, message: string) => void said.push(message)
const log: Log = { info: hear, warn: hear, error: hear }
const settlement = (over: () => Store = () => shared.database) => new Settlement(own.database, over, log)
const owed = async () => (await own.database.db.select({ run: unsettled.run }).from(unsettled)).map(({ run }) => run)

/** A run that ended here and is under way over there. */
async function ended(outbox: Settlement, numTurns: number): Promise<string> {
  const [run] = [await own.run(), await shared.run()]
  const over = { state: 'succeeded' as const, endedAt: 5, runner: 'rnr_1', costUsd: 0.5, numTurns, isError: false }
  await own.database.db.update(runs).set(over).where(eq(runs.id, run))
  await shared.database.db.update(runs).set({ runner: 'rnr_1' }).where(eq(runs.id, run))
  await outbox.owe(run)
  return run
}

describe('the outbox of an object', () => {
  it('tells the others when one of them is refused, and of that one no more than that it is over', async () => {
    await shared.database.db.run(sql`
      CREATE TRIGGER refuses BEFORE UPDATE ON runs WHEN NEW.num_turns = 13 BEGIN SELECT RAISE(ABORT, 'integer overflow'); END`)
    const outbox = settlement()
    const [first, forged, last] = [await ended(outbox, 1), await ended(outbox, 13), await ended(outbox, 2)]
    expect(await outbox.settle()).toBe(true)
    for (const run of [first, last]) expect(await shared.row(run)).toMatchObject({ state: 'succeeded', costUsd: 0.5, endedAt: 5 })
    expect(await shared.row(forged)).toMatchObject({ state: 'lost', costUsd: null, numTurns: null, endedAt: 5 })
    expect(await owed()).toEqual([])
    expect(said).toEqual([expect.stringContaining('only that it is over is told')])
  })

  it('does not stand still for one of which nothing at all is taken', async () => {
    const outbox = settlement()
    const [forged, last] = [await ended(outbox, 1), await ended(outbox, 2)]
    await shared.database.db.run(
      sql.raw(`CREATE TRIGGER refuses BEFORE UPDATE ON runs WHEN NEW.id = '${forged}' BEGIN SELECT RAISE(ABORT, 'no'); END`),
    )
    expect(await outbox.settle()).toBe(true)
    expect(await shared.row(last)).toMatchObject({ state: 'succeeded' })
    expect(await owed()).toEqual([])
  })

  it('tells what became of the events of runs that were marked over there, also of those that are not here any more', async () => {
    const outbox = settlement()
    const [here, gone] = [await ended(outbox, 1), await shared.run()]
    await outbox.settle()
    const { db } = shared.database
    await db.update(runs).set({ runner: 'rnr_1', endedAt: 5, eventBytes: 3, prunedAt: 7 })
    expect(await markedByRunner(db, 10)).toEqual(new Map([['rnr_1', [here, gone]]]))
    await outbox.forget([here, gone], 9)
    expect(await own.row(here)).toMatchObject({ prunedAt: 9 })
    expect(await owed()).toEqual([here])
    // What the sweep does.
    await own.database.db.update(runs).set({ eventBytes: 0 })
    await outbox.settle()
    expect(await markedByRunner(db, 10)).toEqual(new Map())
    expect(await own.row(here)).toMatchObject({ state: 'succeeded', costUsd: 0.5 })
  })

  it('keeps all of it while the database is away', async () => {
    let away = true
    const outbox = settlement(() => ({
      ...shared.database,
      batch: (statements) => (away ? Promise.reject(new Fault('storage')) : shared.database.batch(statements)),
    }))
    const run = await ended(outbox, 1)
    expect(await outbox.settle()).toBe(false)
    expect(await owed()).toEqual([run])
    away = false
    expect(await outbox.settle()).toBe(true)
    expect(await shared.row(run)).toMatchObject({ state: 'succeeded' })
  })
})
