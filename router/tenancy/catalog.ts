/**
 * What is set for a tenant, read from the database at most every two seconds: every request asks, and what an operator
 * changes must be felt by all replicas within that time. Whoever changes something here says so, and is felt at once.
 *
 * It holds rows and nothing that belongs to a request, so that a host may share it between requests.
 */
import type { CompatSettings } from '../../shared/compat-settings.ts'
import type { Db } from '../ports.ts'
import { readCompat } from '../store/compat-settings.ts'
import { readHealth, type HealthRow } from '../store/provider-health.ts'
import { readProviders, type ProviderRow } from '../store/providers.ts'
import { readTenant, type TenantRow } from '../store/tenants.ts'

export const FRESH_MS = 2_000
/** More tenants than this at once are read anew. */
const MAX_TENANTS = 10_000

export interface Catalog {
  /** Undefined: there is no such tenant. */
  tenant(id: string): Promise<TenantRow | undefined>
  /** By id, disabled ones included. */
  providers(tenant: string): Promise<readonly ProviderRow[]>
  /** Breakers that are not as they were made. */
  health(tenant: string): Promise<readonly HealthRow[]>
  /** How the dialects of older servers are answered. */
  compat(): Promise<CompatSettings>
  /** Those were changed here. */
  compatChanged(): void
  /** Something of this tenant was changed here, or nothing but its breakers. */
  changed(tenant: string, what?: 'health'): void
}

type Entry<T> = { readonly at: number; readonly value: T }

/** What outlives a request: plain rows, by tenant. */
export interface CatalogMemory {
  readonly tenants: Map<string, Entry<TenantRow | undefined>>
  readonly providers: Map<string, Entry<readonly ProviderRow[]>>
  readonly health: Map<string, Entry<readonly HealthRow[]>>
  compat: Entry<CompatSettings> | undefined
  /** The change that each tenant had last: what was being read meanwhile may be from before it. */
  readonly changes: Map<string, number>
  /** Numbers the changes of all. */
  lastChange: number
  /** The newest change of those that are forgotten. */
  forgotten: number
}

export const catalogMemory = (): CatalogMemory => ({ tenants: new Map(), providers: new Map(), health: new Map(), compat: undefined, changes: new Map(), lastChange: 0, forgotten: 0 })

/** `now`: milliseconds of any clock that only goes forward, the same for all that share `memory`. */
export function catalogOf(db: Db, memory: CatalogMemory, now: () => number): Catalog {
  const changeOf = (tenant: string) => memory.changes.get(tenant) ?? memory.forgotten
  async function fresh<T>(of: Map<string, Entry<T>>, tenant: string, read: () => Promise<T>): Promise<T> {
    const known = of.get(tenant)
    const at = now()
    if (known && at - known.at < FRESH_MS) return known.value
    const before = changeOf(tenant)
    const value = await read()
    if (before !== changeOf(tenant)) return value
    if (of.size >= MAX_TENANTS) of.clear()
    of.set(tenant, { at, value })
    return value
  }
  return {
    tenant: (id) => fresh(memory.tenants, id, () => readTenant(db, id)),
    providers: (tenant) => fresh(memory.providers, tenant, () => readProviders(db, tenant)),
    health: (tenant) => fresh(memory.health, tenant, () => readHealth(db, tenant)),
    async compat() {
      const at = now()
      const known = memory.compat
      if (known && at - known.at < FRESH_MS) return known.value
      const value = await readCompat(db)
      memory.compat = { at, value }
      return value
    },
    compatChanged() {
      memory.compat = undefined
    },
    changed(tenant, what) {
      if (memory.changes.size >= MAX_TENANTS) {
        memory.changes.clear()
        memory.forgotten = memory.lastChange
      }
      memory.changes.set(tenant, ++memory.lastChange)
      memory.health.delete(tenant)
      if (what === 'health') return
      memory.tenants.delete(tenant)
      memory.providers.delete(tenant)
    },
  }
}
