/**
 * The embedded database: one libSQL file, one connection for all that is written and for what is read at once, every
 * commit durable. How locks and full disks are met is connection.ts's business, and long reads are reader.ts's; here it is
 * opened, migrated and proved.
 */
import type { Client } from '@libsql/client'
import { sql, type SQL } from 'drizzle-orm'
import { drizzle } from 'drizzle-orm/libsql'
import { SQLiteAsyncDialect } from 'drizzle-orm/sqlite-core'
import { chmod } from 'node:fs/promises'
import { migrations } from '../../drizzle/migrations.gen.ts'
import * as schema from '../../drizzle/schema.ts'
import type { Statement, Store } from '../ports.ts'
import { migrate } from '../store/migrate.ts'
import { Connection, type Executor } from './connection.ts'
import { Reader } from './reader.ts'

export interface Database extends Store {
  /** Resolves when the file is free. */
  close(): Promise<void>
}

export async function openDatabase(path: string): Promise<Database> {
  const connection = new Connection(path)
  const reader = new Reader(path)
  const dialect = new SQLiteAsyncDialect()
  try {
    await connection.configure()
    await chmod(path, 0o600)
    // Drizzle asks for more than it uses: without interactive transactions these two are all.
    const db = drizzle(connection as Executor as Client, { schema })
    const database: Database = {
      db,
      batch: (statements) => db.batch(statements as unknown as [Statement, ...Statement[]] as never),
      async heavy<T>(query: SQL, tenant: string | undefined) {
        const { sql: text, params } = dialect.sqlToQuery(query)
        return (await reader.read({ sql: text, args: params }, tenant ?? '')) as T[]
      },
      async close() {
        await reader.close()
        connection.close()
      },
    }
    await migrate(database, migrations)
    return database
  } catch (error) {
    connection.close()
    throw error
  }
}

/** Proves that the database commits; throws what it says when it does not. */
export async function proveCommit(store: Store, now: number): Promise<void> {
  const { probes } = schema
  await store.batch([store.db.insert(probes).values({ id: 1, at: now }).onConflictDoUpdate({ target: probes.id, set: { at: sql`excluded.at` } })])
}
