/**
 * Queries and statements that are built once: building one takes drizzle several times as long as the database takes for it.
 * For what is done all the time; what is asked now and then is easier to read where it is built.
 */
import { is, Param, Placeholder, SQL, sql, type SQLWrapper } from 'drizzle-orm'
import { SQLiteAsyncDialect } from 'drizzle-orm/sqlite-core'
import type { Db } from '../ports.ts'

/** A query that is built once for each database; where every request has a database of its own, it costs what it did. */
export function prepared<Query>(build: (db: Db) => Query): (db: Db) => Query {
  const built = new WeakMap<Db, Query>()
  return (db) => {
    const query = built.get(db) ?? build(db)
    built.set(db, query)
    return query
  }
}

/** Null is a value, undefined is none. A list is none either: how many there are is part of the text. */
export type Values = Readonly<Record<string, string | number | boolean | object | null>>
/** What stands in the text for the value of a name. */
export type Given<V extends Values> = (name: keyof V & string) => Placeholder

/**
 * A statement whose text is built once for the process, by whoever fills it first. Filled, it is for `db.run`, `db.all` and
 * batches of any host, as a whole: as a part of another one it throws. Where a column has an encoding of its own, as JSON and
 * booleans do, `sql.param` names it beside the value.
 */
export function compiled<V extends Values>(write: (given: Given<V>) => SQL): (values: V) => SQL {
  let text: string | undefined
  let readers: Reader[] = []
  return (values) => {
    if (text === undefined) {
      const built = new SQLiteAsyncDialect().sqlToQuery(write((name) => sql.placeholder(name)))
      readers = built.params.map(readerOf)
      text = built.sql
    }
    return new Filled(text, readers.map((read) => read(values)))
  }
}

/** What is bound to one place of the text. */
type Reader = (values: Values) => unknown

function readerOf(param: unknown): Reader {
  if (is(param, Placeholder)) return (values) => valueOf(values, param.name)
  if (!is(param, Param) || !is(param.value, Placeholder)) return () => param
  const { encoder } = param
  const { name } = param.value
  return (values) => {
    const value = valueOf(values, name)
    // Drizzle's own prepared statements ask the encoder of null too, and those of JSON make a text of it.
    return value === null ? null : encoder.mapToDriverValue(value)
  }
}

function valueOf(values: Values, name: string): unknown {
  const value = values[name]
  // Some hosts would write NULL. No TypeError: for those the database is said to have refused the statement for good.
  if (value === undefined) throw new Error(`the statement has no value for ${name}`)
  return value
}

/** What a statement around it finds in its place. */
const PART: SQLWrapper = {
  getSQL() {
    throw new Error('a compiled statement cannot be a part of another one')
  },
}

/** Every driver of drizzle asks a statement for its text and what is bound by this one method. */
class Filled extends SQL {
  readonly #query: { sql: string; params: unknown[] }

  constructor(text: string, params: unknown[]) {
    super([PART])
    this.#query = { sql: text, params }
  }

  override toQuery(): { sql: string; params: unknown[] } {
    return this.#query
  }
}
