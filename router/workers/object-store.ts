/**
 * An object's own SQLite as a `Store`, so that the queries of router/store run on it unchanged.
 *
 * Drizzle's driver for Durable Objects is synchronous and has no batch; its D1 driver is neither, and asks for little:
 * this is that little. A batch is one transaction. What resolved is not on disk before `storage.sync()`.
 */
import { drizzle } from 'drizzle-orm/d1'
import type { Store } from '../ports.ts'
import { batchOn } from './d1-batch.ts'

class BoundStatement {
  readonly #storage: DurableObjectStorage
  readonly #sql: string
  readonly #params: readonly SqlStorageValue[]

  constructor(storage: DurableObjectStorage, sql: string, params: readonly SqlStorageValue[] = []) {
    this.#storage = storage
    this.#sql = sql
    this.#params = params
  }

  bind(...params: readonly unknown[]): BoundStatement {
    return new BoundStatement(this.#storage, this.#sql, params.map(storable))
  }

  now(): { results: Record<string, SqlStorageValue>[] } {
    return { results: this.#storage.sql.exec(this.#sql, ...this.#params).toArray() }
  }

  async all() {
    return this.now()
  }

  async run() {
    return this.now()
  }

  async raw(): Promise<unknown[][]> {
    return [...this.#storage.sql.exec(this.#sql, ...this.#params).raw()]
  }
}

export function objectStore(storage: DurableObjectStorage): Store {
  const client = {
    prepare: (sql: string) => new BoundStatement(storage, sql),
    // Not async: whoever calls it twice gets two transactions in that order.
    batch: (statements: readonly BoundStatement[]) =>
      Promise.resolve(storage.transactionSync(() => statements.map((s) => s.now()))),
  }
  const db = drizzle(client as unknown as D1Database)
  return {
    db: db as unknown as Store['db'],
    batch: (statements) => batchOn(client, statements),
    heavy: (query) => db.all(query),
  }
}

/** SQLite of objects takes whole buffers, and no booleans. */
function storable(value: unknown): SqlStorageValue {
  if (value instanceof Uint8Array) {
    const { buffer, byteOffset, byteLength } = value
    return (byteLength === buffer.byteLength ? buffer : buffer.slice(byteOffset, byteOffset + byteLength)) as ArrayBuffer
  }
  if (typeof value === 'boolean') return value ? 1 : 0
  return value as SqlStorageValue
}
