/** What runs pay with, and what is set for tenants, over the database that all objects share. */
import type { Platform, Store } from '../ports.ts'
import { treasuryOf, type ClosableTreasury } from '../providers/treasury.ts'
import { catalogMemory, catalogOf, type Catalog } from '../tenancy/catalog.ts'
import type { Env } from './env.ts'
import { log } from './log.ts'
import { vaultOf } from './platform.ts'
import { sharedStore } from './shared-store.ts'

/** Rows only: nothing of it belongs to a request, so requests and objects of one isolate share it. */
const memory = catalogMemory()

export function sharedCatalog({ db }: Store): Catalog {
  return catalogOf(db, memory, Date.now)
}

export function sharedTreasury(env: Env, platform: Platform): ClosableTreasury {
  const store = () => sharedStore(env)
  return treasuryOf({ store, catalog: () => sharedCatalog(store()), vault: () => vaultOf(env), platform, log })
}
