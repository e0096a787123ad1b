/** Numbers that all replicas count on together, each step one statement. */
import { sql } from 'drizzle-orm'
import { counters } from '../../drizzle/schema.ts'
import type { Db } from '../ports.ts'

/** 0, 1, 2 …: nobody else gets the same one. */
export async function takeTurn(db: Db, id: string): Promise<number> {
  const [row] = await db
    .insert(counters)
    .values({ id, n: 1 })
    .onConflictDoUpdate({ target: counters.id, set: { n: sql`${counters.n} + 1` } })
    .returning({ n: counters.n })
  return (row?.n ?? 1) - 1
}
