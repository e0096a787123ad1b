/** Sets how long things are kept, whoever asks for it: the admin API or the config file. */
import { OPERATOR_TENANT } from '../guard/operator.ts'
import { readRetention, retentionStatement, type RetentionSettings } from '../store/session-retention.ts'
import { commit, same, type Author, type ChangeDeps } from './change.ts'

/** False: it was this already, and nothing was written. */
export async function changeRetention(deps: ChangeDeps, author: Author, value: RetentionSettings): Promise<boolean> {
  const { db } = deps.store
  const before = await readRetention(db)
  if (same(before, value)) return false
  const change = { tenant: OPERATOR_TENANT, action: 'retention.update', target: 'retention', before, after: value }
  await commit(deps, author, [retentionStatement(db, value, deps.platform.now())], change)
  return true
}
