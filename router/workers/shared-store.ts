/**
 * The database that all objects and isolates share: libSQL over HTTP when `LIBSQL_URL` names one, else D1. Made anew for
 * each request, as a client of another request cannot be used; what could not be done for a reason outside the statement
 * is the fault `storage`.
 */
import { createClient, type Client, type InArgs, type InStatement } from '@libsql/client/web'
import { drizzle as drizzleD1 } from 'drizzle-orm/d1'
import { drizzle as drizzleLibsql } from 'drizzle-orm/libsql/web'
import { migrations } from '../../drizzle/migrations.gen.ts'
import { Fault } from '../../shared/faults.ts'
import type { Statement, Store } from '../ports.ts'
import { migrate } from '../store/migrate.ts'
import { batchOn } from './d1-batch.ts'
import type { Env } from './env.ts'

const RETRY_AFTER_S = 2
/** An answer that never comes must not keep anybody waiting for ever. It may have been done all the same. */
const PATIENCE_MS = 10_000

export function sharedStore(env: Env): Store {
  return env.LIBSQL_URL ? libsql(env.LIBSQL_URL, env.LIBSQL_AUTH_TOKEN) : d1(env)
}

/** Databases that this isolate has seen up to date. */
const migrated = new Set<string>()

/** The same, with every table there: the first request of an isolate looks. */
export async function migratedStore(env: Env): Promise<Store> {
  const store = sharedStore(env)
  const name = env.LIBSQL_URL ?? 'd1'
  if (!migrated.has(name)) {
    await migrate(store, migrations)
    migrated.add(name)
  }
  return store
}

function libsql(url: string, authToken: string | undefined): Store {
  const client = createClient({ url, ...(authToken ? { authToken } : {}) })
  // Without interactive transactions drizzle uses no more of it.
  const used: Pick<Client, 'execute' | 'batch'> = {
    execute: named((statement: InStatement | string, args?: InArgs) =>
      typeof statement === 'string' ? client.execute(statement, args) : client.execute(statement),
    ),
    batch: named((...args: Parameters<Client['batch']>) => client.batch(...args)),
  }
  const db = drizzleLibsql(used as Client)
  return {
    db: db as unknown as Store['db'],
    batch: (statements) => db.batch(statements as unknown as [Statement, ...Statement[]]),
    heavy: (query) => db.all(query),
  }
}

function d1({ DB }: Env): Store {
  if (!DB) throw new Error('there is no database: bind a D1 database as DB, or set LIBSQL_URL')
  const client = {
    prepare: (sql: string) => wrapped(DB.prepare(sql)),
    batch: named((statements: Wrapped[]) => DB.batch(statements.map(({ inner }) => inner))),
  }
  const db = drizzleD1(client as unknown as D1Database)
  return {
    db: db as unknown as Store['db'],
    batch: (statements) => batchOn(client, statements),
    // The database is elsewhere, so that nobody here is held up.
    heavy: (query) => db.all(query),
  }
}

/** What drizzle uses of a prepared statement. */
interface Wrapped {
  readonly inner: D1PreparedStatement
  all(): Promise<D1Result>
  run(): Promise<D1Result>
  bind(...values: unknown[]): Wrapped
  raw(): Promise<unknown[][]>
}

function wrapped(inner: D1PreparedStatement): Wrapped {
  return {
    inner,
    bind: (...values) => wrapped(inner.bind(...values)),
    all: named(() => inner.all()),
    run: named(() => inner.run()),
    raw: named(() => inner.raw()),
  }
}

function named<A extends unknown[], R>(work: (...args: A) => Promise<R>): (...args: A) => Promise<R> {
  return async (...args) => {
    let timer: ReturnType<typeof setTimeout> | undefined
    const late = new Promise<never>((_resolve, reject) => {
      timer = setTimeout(() => reject(new Error(`no answer within ${PATIENCE_MS} ms`)), PATIENCE_MS)
    })
    try {
      return await Promise.race([work(...args), late])
    } catch (error) {
      if (speaksOfTheStatement(error)) throw error
      throw Object.assign(new Fault('storage', undefined, { retryAfterS: RETRY_AFTER_S }), { cause: error })
    } finally {
      clearTimeout(timer)
    }
  }
}

/** Bugs of ours, and constraints that did their work. D1 says so in its message only. */
function speaksOfTheStatement(error: unknown): boolean {
  return (
    error instanceof Error &&
    /SQLITE_(?:ERROR|CONSTRAINT|MISMATCH|RANGE|MISUSE|TOOBIG|AUTH)|syntax error|no such (?:table|column)/i.test(error.message)
  )
}
