import { sql, type SQL } from 'drizzle-orm'
import { drizzle as drizzleD1 } from 'drizzle-orm/d1'
import { SQLiteAsyncDialect } from 'drizzle-orm/sqlite-core'
import * as fc from 'fast-check'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, expectTypeOf, it } from 'vitest'
import { runEvents, runs } from '../../drizzle/schema.ts'
import { openLog, type LogRig } from '../../test/kit/log.ts'
import { Connection } from '../node/connection.ts'
import type { Store } from '../ports.ts'
import { batchOn } from '../workers/d1-batch.ts'
import { compiled } from './prepared.ts'
import { isRefusedStatement } from './statement-error.ts'

type Row = {
  text: string | null
  number: number | null
  flag: boolean | null
  json: Record<string, string> | null
  bytes: Uint8Array | null
}

/** The same select of values, with them or with what stands for them. */
const selectOf = (its: (name: keyof Row) => unknown): SQL => sql`
  SELECT ${its('text')} AS "text", typeof(${its('number')}) AS "type", ${its('number')} AS "number", 'said' || ${'so'} AS "fixed",
    ${sql.param(its('flag'), runs.task)} AS "flag", ${sql.param(its('json'), runs.metadata)} AS "json", hex(${sql.param(its('bytes'), runEvents.bytes)}) AS "bytes"`
const select = compiled<Row>((given) => selectOf(given))
const unprepared = (row: Row): SQL => selectOf((name) => row[name])

const rows = fc.record<Row>({
  text: fc.option(fc.string({ unit: 'binary' })),
  number: fc.option(fc.oneof(fc.maxSafeInteger(), fc.double({ noNaN: true, noDefaultInfinity: true }))),
  flag: fc.option(fc.boolean()),
  json: fc.option(fc.dictionary(fc.string(), fc.string(), { noNullPrototype: true })),
  bytes: fc.option(fc.uint8Array()),
})

let log: LogRig
let connection: Connection
beforeAll(async () => {
  log = await openLog()
  connection = new Connection(join(log.dir, 'd1.db'))
})
afterAll(async () => {
  connection.close()
  await log.close()
})

/** What D1 and the stores of objects are to drizzle, on a database of this process. */
function d1Store(): Pick<Store, 'db' | 'batch'> {
  const bound = (text: string, params: readonly unknown[]) => {
    const all = async () => ({ results: (await connection.execute({ sql: text, args: params as [] })).rows })
    return { all, run: all }
  }
  const client = {
    prepare: (text: string) => ({ bind: (...params: unknown[]) => bound(text, params) }),
    batch: (statements: ReturnType<typeof bound>[]) => Promise.all(statements.map((statement) => statement.all())),
  }
  return { db: drizzleD1(client as unknown as Parameters<typeof drizzleD1>[0]) as unknown as Store['db'], batch: (statements) => batchOn(client, statements) }
}

describe('a compiled statement', () => {
  it('is the text and the values that drizzle makes of it at each call', () => {
    const dialect = new SQLiteAsyncDialect()
    fc.assert(
      fc.property(rows, (row) => {
        const { sql: text, params } = dialect.sqlToQuery(unprepared(row))
        expect(dialect.sqlToQuery(select(row))).toEqual({ sql: text, params })
      }),
    )
  })

  it.each([
    ['libSQL', () => log.database],
    ['D1', d1Store],
  ])('gives on %s what it gives unprepared, alone and among others', async (_name, open) => {
    const { db, batch } = open()
    await fc.assert(
      fc.asyncProperty(rows, rows, async (one, other) => {
        const expected = [await db.all(unprepared(one)), await db.all(unprepared(other))]
        expect([await db.all(select(one)), await db.all(select(other))]).toEqual(expected)
        const compiledBatch = [db.all(select(one)), db.all(select(other))]
        expect(await batch(compiledBatch as never)).toEqual(expected)
      }),
      { numRuns: 30 },
    )
  })

  it('is written once, and every filling has values of its own', async () => {
    let written = 0
    const twice = compiled<{ a: number; b: number }>((given) => {
      written++
      return sql`SELECT ${given('a')} AS "a", ${given('b')} AS "b", ${given('a')} AS "again"`
    })
    const { db } = log.database
    const [first, second] = [twice({ a: 1, b: 2 }), twice({ a: 3, b: 4 })]
    expect([await db.all(second), await db.all(first)]).toEqual([[{ a: 3, b: 4, again: 3 }], [{ a: 1, b: 2, again: 1 }]])
    expect(written).toBe(1)
  })

  it('has to be given every value, and undefined is none', () => {
    expectTypeOf(select).parameter(0).toEqualTypeOf<Row>()
    const { json: _none, ...without } = { text: null, number: null, flag: null, json: null, bytes: null }
    expectTypeOf(without).not.toExtend<Row>()
    expectTypeOf<Row & { text: undefined }>().not.toExtend<Parameters<typeof select>[0]>()
    expect(() => select(without as unknown as Row)).toThrow('the statement has no value for json')
  })

  it('that lacks a value is a mistake of ours, and not one that the database has refused for good', () => {
    const forgotten = () => select({} as Row)
    expect(forgotten).toThrow(expect.toSatisfy((error) => !isRefusedStatement(error)))
  })

  it('is no part of another one', async () => {
    const one = compiled<{ a: number }>((given) => sql`SELECT ${given('a')} AS "a"`)
    const { db } = log.database
    const part = one({ a: 1 })
    for (const whole of [sql`SELECT * FROM (${part})`, sql.join([part, part]), sql`SELECT ${sql.param(part)}`]) {
      expect(() => new SQLiteAsyncDialect().sqlToQuery(whole)).toThrow('a compiled statement cannot be a part of another one')
    }
    expect(() => db.select({ a: part.as('a') }).from(runs).toSQL()).toThrow('a compiled statement cannot be a part of another one')
    expect(await db.all(part)).toEqual([{ a: 1 }])
  })
})
