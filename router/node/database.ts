/**
 * The embedded database: one libSQL file, one connection, every commit durable.
 *
 * A wait for a lock would block the event loop and with it every stream, so the lock timeout is short and callers
 * retry. A connection that once met SQLITE_BUSY may refuse every later commit; `heal` replaces it.
 */
import { createClient, type Client } from '@libsql/client'
import { sql } from 'drizzle-orm'
import { drizzle } from 'drizzle-orm/libsql'
import { chmod } from 'node:fs/promises'
import { migrations } from '../../drizzle/migrations.gen.ts'
import * as schema from '../../drizzle/schema.ts'
import type { Statement, Store } from '../ports.ts'

const LOCK_TIMEOUT_MS = 50

export interface Database extends Store {
  /** A fresh connection in place of one that a failed commit may have poisoned. */
  heal(): Promise<void>
  close(): void
}

export async function openDatabase(path: string): Promise<Database> {
  // One connection: PRAGMAs belong to it, and two would wait for each other's write lock.
  const client = createClient({ url: `file:${path}`, concurrency: 1, timeout: LOCK_TIMEOUT_MS })
  await configure(client)
  await chmod(path, 0o600)
  const db = drizzle(client, { schema })
  await migrate(client)
  return {
    db,
    batch: (statements) => db.batch(statements as unknown as [Statement, ...Statement[]] as never),
    async heal() {
      client.reconnect()
      await configure(client)
    },
    close: () => client.close(),
  }
}

async function configure(client: Client): Promise<void> {
  await client.execute('PRAGMA journal_mode = WAL')
  // The event log promises that what was acknowledged survives a power cut.
  await client.execute('PRAGMA synchronous = FULL')
}

/** Applies what is new, each migration atomically, in drizzle's own table so that its tools agree with us. */
async function migrate(client: Client): Promise<void> {
  await client.execute('CREATE TABLE IF NOT EXISTS __drizzle_migrations (id INTEGER PRIMARY KEY, hash text NOT NULL, created_at numeric)')
  const { rows } = await client.execute('SELECT max(created_at) AS newest FROM __drizzle_migrations')
  const newest = Number(rows[0]?.['newest'] ?? 0)
  for (const { statements, hash, when } of migrations) {
    if (when <= newest) continue
    await client.batch([...statements, { sql: 'INSERT INTO __drizzle_migrations (hash, created_at) VALUES (?, ?)', args: [hash, when] }], 'write')
  }
}

/** Proves that the database commits; throws what it says when it does not. */
export async function proveCommit(store: Store, now: number): Promise<void> {
  const { probes } = schema
  await store.batch([store.db.insert(probes).values({ id: 1, at: now }).onConflictDoUpdate({ target: probes.id, set: { at: sql`excluded.at` } })])
}
