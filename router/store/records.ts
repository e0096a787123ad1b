/** `Records` where one database has everything but, perhaps, the newest events. */
import type { Records, Store } from '../ports.ts'
import { databaseReads, type LogReads } from './run-events.ts'
import { findShown } from './run-shown.ts'
import { findRun } from './runs.ts'

export function storeRecords({ db }: Store, log: LogReads = databaseReads(db)): Records {
  return {
    find: ({ tenant, run }) => findRun(db, tenant, run),
    show: (ref) => findShown(db, ref),
    latest: ({ tenant, id }) => findRun(db, tenant, id),
    lastSeq: async ({ id }) => (await log.end(id)).seq,
    event: ({ id }, seq) => log.event(id, seq),
  }
}
