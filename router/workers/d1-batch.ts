/**
 * A batch of drizzle's statements on a client that speaks like D1. Drizzle 0.45's own cannot do raw statements that have
 * parameters: it asks them for a prepared statement, which only built ones have.
 */
import type { Statement } from '../ports.ts'

/** What drizzle has inside a statement of a batch. */
type Prepared = { getQuery(): { sql: string; params: unknown[] }; mapResult(result: unknown, fromBatch: true): unknown }

export interface D1Like<S> {
  prepare(sql: string): { bind(...params: unknown[]): S }
  /** All or nothing, in order. */
  batch(statements: S[]): Promise<unknown[]>
}

/** Begins before it returns: two calls in a row are two transactions in that order. */
export function batchOn<S>(client: D1Like<S>, statements: readonly Statement[]): Promise<unknown[]> {
  if (statements.length === 0) return Promise.resolve([])
  // oxlint-disable-next-line no-underscore-dangle -- drizzle's name
  const prepared = statements.map((statement) => (statement as unknown as { _prepare(): Prepared })._prepare())
  const bound = prepared.map((p) => {
    const { sql, params } = p.getQuery()
    return client.prepare(sql).bind(...params)
  })
  return client.batch(bound).then((results) => results.map((result, i) => prepared[i]!.mapResult(result, true)))
}
