/** A database that does what it is told and reports it as failed: a real one, whose answers are lost below drizzle. */
import { storage, type Executor } from '../../router/node/connection.ts'
import type { Store } from '../../router/ports.ts'

export interface Trouble {
  /** How many answers were such. */
  readonly count: number
  over(): void
}

/**
 * The answers to statements that match, values included, are errors until it is over. `once`: it is over with the first.
 * `lost`: nothing of it was kept.
 */
export function keepAndFail(store: Store, statement: RegExp, { once = true, lost = false } = {}): Trouble {
  const client = (store.db as unknown as { $client: Executor }).$client
  const [execute, batch] = [client.execute.bind(client), client.batch.bind(client)]
  let [count, isOver] = [0, false]
  const unlucky = async <T>(asked: unknown, work: () => Promise<T>): Promise<T> => {
    const meant = !isOver && statement.test(JSON.stringify(asked).replaceAll('\\"', '"'))
    const result = meant && lost ? undefined : await work()
    if (!meant) return result as T
    count++
    isOver ||= once
    throw storage(new Error('SQLITE_IOERR: disk I/O error'))
  }
  client.execute = (...args) => unlucky(args, () => execute(...args))
  client.batch = (...args) => unlucky(args, () => batch(...args))
  return {
    get count() {
      return count
    },
    over: () => void (isOver = true),
  }
}
