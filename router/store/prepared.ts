/**
 * A query that is built once for each database: building one takes drizzle several times as long as the database takes to
 * answer it. For what is asked all the time; where every request has a database of its own, it costs what it did.
 */
import type { Db } from '../ports.ts'

export function prepared<Query>(build: (db: Db) => Query): (db: Db) => Query {
  const built = new WeakMap<Db, Query>()
  return (db) => {
    const query = built.get(db) ?? build(db)
    built.set(db, query)
    return query
  }
}
