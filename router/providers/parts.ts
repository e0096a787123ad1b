/** What choosing and judging providers needs of its host. */
import type { Log, Platform, Store, Vault } from '../ports.ts'
import type { Catalog } from '../tenancy/catalog.ts'

export interface TreasuryParts {
  /** Asked for anew each time: where clients belong to a request, each one gets its own. */
  readonly store: () => Store
  readonly catalog: () => Catalog
  readonly vault: () => Vault | Promise<Vault>
  readonly platform: Platform
  readonly log: Log
}
