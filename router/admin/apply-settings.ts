/** Sets one part of a tenant's settings, whoever asks for it: the admin API or the config file. */
import type { TenantSettings } from '../../shared/tenant-settings.ts'
import { changeTenant, haveTenant } from '../store/tenant-pages.ts'
import { readTenant } from '../store/tenants.ts'
import { commit, same, type Author, type ChangeDeps } from './change.ts'

/** False: it was set to this already, and nothing was written. */
export async function changeSettings<P extends keyof TenantSettings>(
  deps: ChangeDeps,
  author: Author,
  tenant: string,
  part: P,
  value: NonNullable<TenantSettings[P]>,
): Promise<boolean> {
  const { db } = deps.store
  const row = await readTenant(db, tenant)
  const before = row?.settings[part]
  if (same(before, value)) return false
  const statements = [haveTenant(db, tenant, deps.platform.now()), changeTenant(db, tenant, { [part]: value })]
  await commit(deps, author, statements, { tenant, action: `${part}.update`, target: `tenant/${tenant}`, before, after: value })
  return true
}
