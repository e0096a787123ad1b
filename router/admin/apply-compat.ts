/** Sets how the dialects of older servers are answered, whoever asks for it: the admin API or the config file. */
import { CompatSettings } from '../../shared/compat-settings.ts'
import { Fault } from '../../shared/faults.ts'
import { OPERATOR_TENANT } from '../guard/operator.ts'
import { compatStatement, readCompat } from '../store/compat-settings.ts'
import { readTenant } from '../store/tenants.ts'
import { commit, same, type Author, type ChangeDeps } from './change.ts'

/** What is set in place of what was: `value` is checked already. False: it was this, and nothing was written. Throws `not_found`. */
export async function changeCompat(deps: ChangeDeps, author: Author, value: CompatSettings): Promise<boolean> {
  const { db } = deps.store
  const tenant = value.claude_code_api.anonymous?.tenant
  // A slip of the pen would let everybody in as a tenant that nobody has set limits for.
  if (tenant !== undefined && tenant !== OPERATOR_TENANT && !(await readTenant(db, tenant))) {
    throw new Fault('not_found', `no tenant ${tenant}`, { extra: { field: 'claude_code_api.anonymous.tenant' } })
  }
  const before = await readCompat(db)
  if (same(before, value)) return false
  const change = { tenant: OPERATOR_TENANT, action: 'compat.update', target: 'compat', before, after: value }
  await commit(deps, author, [compatStatement(db, value, deps.platform.now())], change)
  deps.catalog.compatChanged()
  return true
}

const { claudecode2api, ccs, claude_code_server, claude_code_api } = CompatSettings.shape

/** As a config file has it: families that it names are as it says, the others as they are. */
export const FileCompat = CompatSettings.extend({
  claudecode2api: claudecode2api.unwrap().optional(),
  ccs: ccs.unwrap().optional(),
  claude_code_server: claude_code_server.unwrap().optional(),
  claude_code_api: claude_code_api.unwrap().optional(),
})

/** The families that were changed. */
export async function applyCompat(deps: ChangeDeps, author: Author, wish: Partial<CompatSettings>): Promise<string[]> {
  const before = await readCompat(deps.store.db)
  const named = Object.fromEntries(Object.entries(wish).filter(([, settings]) => settings !== undefined))
  const after = CompatSettings.parse({ ...before, ...named })
  if (!(await changeCompat(deps, author, after))) return []
  return Object.entries(after).flatMap(([family, settings]) => (same(settings, before[family as keyof CompatSettings]) ? [] : [family]))
}
