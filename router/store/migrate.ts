/**
 * Brings a database up to date, each migration atomically, in drizzle's own table so that its tools agree with us.
 *
 * Two that do it at once do no harm: the number of a migration is the key of its row, so the slower batch fails as a
 * whole and finds it done.
 */
import { sql } from 'drizzle-orm'
import type { Migration } from '../../drizzle/migrations.gen.ts'
import type { Statement, Store } from '../ports.ts'

export async function migrate(store: Store, migrations: readonly Migration[]): Promise<void> {
  const { db } = store
  await db.run(sql`CREATE TABLE IF NOT EXISTS __drizzle_migrations (id INTEGER PRIMARY KEY, hash text NOT NULL, created_at numeric)`)
  for (const [i, { statements, hash, when }] of migrations.entries()) {
    if (when <= (await newest(store))) continue
    const done = sql`INSERT INTO __drizzle_migrations (id, hash, created_at) VALUES (${i + 1}, ${hash}, ${when})`
    try {
      await store.batch([...statements.map((s) => sql.raw(s)), done].map((s) => db.run(s) as Statement))
    } catch (error) {
      if (when > (await newest(store))) throw error
    }
  }
}

async function newest({ db }: Store): Promise<number> {
  const [row] = await db.all<{ newest: number | null }>(sql`SELECT max(created_at) AS newest FROM __drizzle_migrations`)
  return row?.newest ?? 0
}
