/**
 * The connection to the database file, and the statements that were prepared on it: preparing one anew costs several times
 * what it costs to run, and a router asks the same few hundred over and over. `@libsql/client` prepares each time and is
 * around this driver where nobody counts.
 *
 * Everything here is done at once, in the thread that asks. Locks and what to do about them are the caller's.
 */
import { LibsqlError, type InArgs, type InStatement, type InValue, type TransactionMode } from '@libsql/client'
import Libsql from 'libsql'

/** What of a result anybody looks at. */
export type Rows = { readonly columns: readonly string[]; readonly rows: readonly Record<string, unknown>[] }

type Statement = ReturnType<Libsql.Database['prepare']>
/** `names` where it gives rows: each with the place of its column. */
type Prepared = { readonly statement: Statement; readonly columns: readonly string[]; readonly names?: ReadonlyMap<string, number> }

/** Some pragmas do their work when they are prepared, so these are never kept. */
const KEPT = /^\s*(?:SELECT|INSERT|UPDATE|DELETE|WITH|BEGIN|COMMIT|ROLLBACK)\b/i
const READS = /^\s*SELECT\b/i
/** Lists of ids make statements of any length: what was used the longest ago goes. */
const MAX_STATEMENTS = 512
const BEGIN = { write: 'BEGIN IMMEDIATE', read: 'BEGIN TRANSACTION READONLY', deferred: 'BEGIN DEFERRED' } as const

export class Driver {
  readonly #db: Libsql.Database
  readonly #statements = new Map<string, Prepared>()

  constructor(path: string, options: { timeout: number }) {
    this.#db = new Libsql(path, options)
  }

  /** Several statements without arguments, whose rows nobody wants. Throws `LibsqlError`, as all of these. */
  exec(text: string): void {
    this.#mustBeOpen()
    try {
      this.#db.exec(text)
    } catch (error) {
      throw named(error)
    } finally {
      this.#leaveTransaction()
    }
  }

  execute(statement: InStatement | string, args?: InArgs): Rows {
    const [sql, values] = typeof statement === 'string' ? [statement, args] : [statement.sql, statement.args]
    return this.#run(sql, values)
  }

  /** All of them or none. */
  batch(statements: readonly (InStatement | [string, InArgs?])[], mode: TransactionMode): Rows[] {
    this.#run(BEGIN[mode])
    try {
      const results = statements.map((one) => (Array.isArray(one) ? this.execute(one[0], one[1]) : this.execute(one)))
      this.#run('COMMIT')
      return results
    } finally {
      this.#leaveTransaction()
    }
  }

  close(): void {
    this.#statements.clear()
    if (this.#db.open) this.#db.close()
  }

  #run(sql: string, args: InArgs = []): Rows {
    const values = Array.isArray(args) ? args.map(bound) : Object.fromEntries(Object.entries(args).map(([name, value]) => [name.replace(/^[@$:]/, ''), bound(value)]))
    this.#mustBeOpen()
    try {
      const { statement, columns, names } = this.#prepared(sql)
      if (!names) {
        statement.run(values)
        return { columns, rows: [] }
      }
      // To the last row: a statement that was not read to its end keeps its snapshot, and the log could not be folded back.
      const rows = exactRows(sql, statement, values)
      return { columns, rows: rows.map((row) => new Row(names, row)) }
    } catch (error) {
      // One that was refused is not reset by libSQL and would keep its snapshot too.
      this.#statements.delete(sql)
      throw named(error)
    }
  }

  #prepared(sql: string): Prepared {
    const known = this.#statements.get(sql)
    const prepared = known ?? prepare(this.#db, sql)
    if (!KEPT.test(sql)) return prepared
    // Behind all others.
    this.#statements.delete(sql)
    this.#statements.set(sql, prepared)
    for (const oldest of this.#statements.keys()) {
      if (this.#statements.size <= MAX_STATEMENTS) break
      this.#statements.delete(oldest)
    }
    return prepared
  }

  /** The binding would take it for a fault of the statement, or abort. */
  #mustBeOpen(): void {
    if (!this.#db.open) throw new LibsqlError('the connection is closed', 'CLIENT_CLOSED')
  }

  #leaveTransaction(): void {
    // Asking a closed database whether it is in a transaction aborts the process.
    if (this.#db.open && this.#db.inTransaction) this.#db.exec('ROLLBACK')
  }
}

function prepare(db: Libsql.Database, sql: string): Prepared {
  const statement = db.prepare(sql)
  try {
    statement.raw(true)
  } catch {
    // It has nothing to give back.
    return { statement, columns: [] }
  }
  const columns = statement.columns().map(({ name }) => name)
  // Of two with one name the first counts. One that is a number would stand in the way of the places.
  const names = columns.map((name, place) => [name, place] as const).filter(([name]) => !/^(?:\d+|length)$/.test(name))
  return { statement, columns, names: new Map(names.toReversed()) }
}

/**
 * All rows of a statement. An integer that no number is exact enough for is a `RangeError`, and not another integer.
 *
 * As a number it looks like a real, so whatever is that large is read once more, with its integers told from the reals: to
 * tell them always makes a bigint of each. What writes is not asked twice, and what it gives back is taken as it is.
 *
 * Never by the binding's `get`, although it is quicker for one row: on a statement that was read by `all` before, it answers
 * for the values of that time.
 */
function exactRows(sql: string, statement: Statement, values: object): unknown[][] {
  const rows = statement.all(values) as unknown[][]
  if (!rows.some((row) => row.some(isBeyondExact)) || !READS.test(sql)) return rows
  statement.safeIntegers(true)
  try {
    return (statement.all(values) as unknown[][]).map((row) => row.map(asNumber))
  } finally {
    statement.safeIntegers(false)
  }
}

function isBeyondExact(value: unknown): boolean {
  return typeof value === 'number' && (value > Number.MAX_SAFE_INTEGER || value < Number.MIN_SAFE_INTEGER)
}

function asNumber(value: unknown): unknown {
  if (typeof value !== 'bigint') return value
  if (!Number.isSafeInteger(Number(value))) throw new RangeError(`the integer ${value} of the database has no exact number`)
  return Number(value)
}

/** What SQLite can be given. A `RangeError` or `TypeError` says that it is no value of a database. */
function bound(value: InValue): unknown {
  if (typeof value === 'number' && !Number.isFinite(value)) throw new RangeError('only finite numbers can be passed to the database')
  // The binding would take the lowest 64 bits.
  if (typeof value === 'bigint' && BigInt.asIntN(64, value) !== value) throw new RangeError('only integers of 64 bits can be passed to the database')
  if (typeof value === 'boolean') return value ? 1 : 0
  if (value instanceof ArrayBuffer) return Buffer.from(value)
  if (value instanceof Date) return value.valueOf()
  if (value === undefined) throw new TypeError('undefined cannot be passed to the database')
  return value
}

/** A row by the names of its columns; by their places too, which is what drizzle takes where it knows the columns. */
class Row {
  [column: string]: unknown
  static #places = 0
  readonly #values: readonly unknown[]

  constructor(names: ReadonlyMap<string, number>, values: readonly unknown[]) {
    this.#values = values
    for (; Row.#places < values.length; Row.#places++) Row.#definePlace(Row.#places)
    for (const [name, place] of names) this[name] = values[place]
  }

  get length(): number {
    return this.#values.length
  }

  /** For all rows at once: properties of each would cost more than reading it. */
  static #definePlace(place: number): void {
    Object.defineProperty(Row.prototype, place, {
      get(this: Row) {
        return this.#values[place]
      },
    })
  }
}

/** The codes of SQLite are words, those that say more have more words. */
function named(error: unknown): unknown {
  if (!(error instanceof Libsql.SqliteError)) return error
  const { message, code, rawCode } = error
  return new LibsqlError(message, /^SQLITE_[A-Z0-9]+/.exec(code)?.[0] ?? 'SQLITE_UNKNOWN', code, rawCode, error)
}
