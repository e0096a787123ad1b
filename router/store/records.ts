/** `Records` where one database has everything. */
import type { Records, Store } from '../ports.ts'
import { logEnd, readEvent } from './run-events.ts'
import { findRun } from './runs.ts'

export function storeRecords({ db }: Store): Records {
  return {
    find: ({ tenant, run }) => findRun(db, tenant, run),
    latest: ({ tenant, id }) => findRun(db, tenant, id),
    lastSeq: async ({ id }) => (await logEnd(db, id)).seq,
    event: ({ id }, seq) => readEvent(db, id, seq),
  }
}
