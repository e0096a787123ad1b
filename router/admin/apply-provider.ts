/**
 * Changes of providers, whoever asks for them: the admin API or the config file. The shapes were checked; here a key is
 * sealed before anything else sees it, and what is the same already is left alone.
 */
import type { z } from '@hono/zod-openapi'
import { Fault } from '../../shared/faults.ts'
import { LOCAL_PROVIDER } from '../../shared/grants.ts'
import { openKey, sealKey } from '../providers/keys.ts'
import { resetHealth } from '../store/provider-health.ts'
import { deleteProvider, insertProvider, readProviders, updateProvider, type ProviderChange, type ProviderRow } from '../store/providers.ts'
import { ensureTenant } from '../store/tenants.ts'
import { checkReach } from './base-url.ts'
import { auditOf, iso, same, type Author, type ChangeDeps } from './change.ts'
import type { NewProvider, ProviderPatch, ProviderView } from './provider-schemas.ts'

/** Every offer looks at all of them. */
const MAX_PROVIDERS = 256

/** `warnings`: what was taken, and may still not work. */
export interface Applied {
  readonly row: ProviderRow
  readonly changed: boolean
  readonly warnings: readonly string[]
}

/** Throws `conflict` when there is one of that id, and `policy` for a base URL that no runner would dial. */
export async function createProvider(deps: ChangeDeps, author: Author, tenant: string, wish: NewProvider): Promise<Applied> {
  const { store, vault, platform, catalog } = deps
  const { id, base_url: baseUrl, api_key: apiKey } = wish
  if ((await readProviders(store.db, tenant)).length >= MAX_PROVIDERS)
    throw new Fault('conflict', `the tenant ${tenant} has ${MAX_PROVIDERS} providers already`)
  const warnings = await reach(deps, tenant, baseUrl, wish.pools)
  const now = platform.now()
  const place = { tenant, id, version: 1 }
  const key = apiKey === undefined ? NO_KEY : await sealKey(vault, place, apiKey)
  const { name = id, env, models, model_map: modelMap, prices, weight, enabled, pools } = wish
  const row: ProviderRow = {
    ...place,
    name,
    baseUrl: baseUrl ?? null,
    ...key,
    env,
    models,
    modelMap,
    prices,
    weight,
    enabled,
    pools,
    createdAt: now,
    updatedAt: now,
  }
  await ensureTenant(store.db, tenant, now)
  const audit = auditOf(deps, author, { tenant, action: 'provider.create', target: `provider/${id}`, after: providerView(row) })
  if (!(await insertProvider(store, row, audit))) throw new Fault('conflict', `there is a provider ${id} already`)
  catalog.changed(tenant)
  return { row, changed: true, warnings }
}

/** Throws `conflict` when it was changed since `was` was read. */
export async function changeProvider(
  deps: ChangeDeps,
  author: Author,
  was: ProviderRow,
  patch: ProviderPatch,
  action = 'provider.update',
): Promise<Applied> {
  if (was.id === LOCAL_PROVIDER) {
    for (const field of ['base_url', 'api_key'] as const)
      if (patch[field] !== undefined)
        throw new Fault('invalid_request', `${field}: does not belong to \`local\`, which is the login of the machine`, {
          extra: { field },
        })
  }
  const { store, platform, catalog } = deps
  // What stays as it is was looked at when it came, by the owners of then.
  const isNews = patch.base_url !== undefined && patch.base_url !== was.baseUrl
  const pools = patch.pools === undefined ? was.pools : patch.pools
  const goesWider = was.baseUrl !== null && patch.pools !== undefined && !same(patch.pools, was.pools)
  const warnings = isNews || goesWider ? await reach(deps, was.tenant, patch.base_url ?? was.baseUrl ?? undefined, pools) : []
  const { base_url: baseUrl, api_key: apiKey, model_map: modelMap, ...rest } = patch
  const plain = Object.entries({ ...rest, modelMap }).filter(
    ([name, value]) => value !== undefined && !same(value, was[name as keyof ProviderRow]),
  )
  const change: ProviderChange = { ...Object.fromEntries(plain), ...(await rekeyed(deps, was, baseUrl, apiKey)) }
  if (Object.keys(change).length === 0) return { row: was, changed: false, warnings }
  const after = { ...was, ...change }
  const audit = auditOf(deps, author, {
    tenant: was.tenant,
    action,
    target: `provider/${was.id}`,
    before: providerView(was),
    after: providerView(after),
  })
  const row = await updateProvider(store, was, change, platform.now(), audit)
  catalog.changed(was.tenant)
  if (!row) throw changedMeanwhile(was)
  return { row, changed: true, warnings }
}

export async function removeProvider(deps: ChangeDeps, author: Author, was: ProviderRow): Promise<void> {
  const audit = auditOf(deps, author, {
    tenant: was.tenant,
    action: 'provider.delete',
    target: `provider/${was.id}`,
    before: providerView(was),
  })
  const gone = await deleteProvider(deps.store, was, audit)
  deps.catalog.changed(was.tenant)
  if (!gone) throw changedMeanwhile(was)
}

export async function resetProvider(
  deps: ChangeDeps,
  author: Author,
  { tenant, id }: ProviderRow,
  before: unknown,
): Promise<void> {
  const audit = auditOf(deps, author, { tenant, action: 'provider.reset', target: `provider/${id}`, before })
  await resetHealth(deps.store, tenant, id, deps.platform.now(), audit)
  deps.catalog.changed(tenant)
}

const NO_KEY = { sealedKey: null, sealedBy: null, keyTail: null, keyPrint: null }

/** A key is sealed for one version, and every key and base URL makes one. */
async function rekeyed(
  { vault }: ChangeDeps,
  was: ProviderRow,
  baseUrl: string | undefined,
  apiKey: string | undefined,
): Promise<ProviderChange> {
  const moved = baseUrl !== undefined && baseUrl !== was.baseUrl
  // Otherwise whoever may change a provider could have its key sent to him, and so read it.
  if (moved && apiKey === undefined && !staysHome(was.baseUrl, baseUrl))
    throw new Fault('invalid_request', 'api_key: has to be given with a base_url of another host', {
      extra: { field: 'api_key' },
    })
  const place = { ...was, version: was.version + 1 }
  const given = apiKey === undefined ? undefined : await sealKey(vault, place, apiKey)
  const renewed = given && (given.keyPrint !== was.keyPrint || moved)
  if (!moved && !renewed) return {}
  const key = given ?? (await sealKey(vault, place, await opened(vault, was)))
  return { version: place.version, ...(moved ? { baseUrl } : {}), ...key }
}

function staysHome(was: string | null, is: string): boolean {
  if (was === null) return false
  const [from, to] = [new URL(was), new URL(is)]
  return from.host === to.host && (to.protocol === 'https:' || from.protocol === 'http:')
}

async function opened(vault: ChangeDeps['vault'], was: ProviderRow): Promise<string> {
  try {
    return await openKey(vault, was)
  } catch (error) {
    throw Object.assign(
      new Fault('conflict', `the stored key of ${was.id} cannot be opened; send api_key too`, { extra: { field: 'api_key' } }),
      { cause: error },
    )
  }
}

async function reach(
  { hub }: ChangeDeps,
  tenant: string,
  baseUrl: string | undefined,
  pools: readonly string[] | null,
): Promise<string[]> {
  if (baseUrl === undefined) return []
  const online = await hub.online(tenant)
  return checkReach(
    baseUrl,
    online.filter(({ pool }) => pools === null || pools.includes(pool)),
  )
}

const changedMeanwhile = ({ id }: ProviderRow) =>
  new Fault('conflict', `the provider ${id} was changed meanwhile; look at it again`)

/** As the API and the audit show it. */
export function providerView(row: ProviderRow): z.infer<typeof ProviderView> {
  const { id, tenant, name, baseUrl, keyTail, keyPrint, env, models, modelMap, prices, weight, enabled, pools, version } = row
  return {
    id,
    tenant,
    name,
    base_url: baseUrl,
    key: keyPrint === null ? null : { last4: keyTail ?? '', fingerprint: keyPrint },
    env,
    models,
    model_map: modelMap,
    prices,
    weight,
    enabled,
    pools,
    version,
    created_at: iso(row.createdAt),
    updated_at: iso(row.updatedAt),
  }
}
