/** Somebody else at the same database file: a connection of its own that holds the write lock until it is told otherwise. */
import { createClient } from '@libsql/client'

export async function lockWrites(path: string): Promise<() => Promise<void>> {
  const other = createClient({ url: `file:${path}` })
  const transaction = await other.transaction('write')
  let released: Promise<void> | undefined
  return () =>
    (released ??= (async () => {
      await transaction.rollback()
      other.close()
    })())
}
