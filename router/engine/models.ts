/**
 * The names of models that a caller may ask for, as far as they are known: a provider that takes any model, and the login
 * of a machine, have the aliases of the CLI and whatever the token names.
 */
import { serves } from '../core/provider-choice.ts'
import type { Deps, Principal } from '../ports.ts'
import type { ProviderRow } from '../store/providers.ts'

/** What the CLI has a meaning for, whoever pays (claude-cli 2.1.197). */
const ALIASES = ['sonnet', 'opus', 'haiku'] as const

export interface KnownModel {
  readonly name: string
  /** Ids of those that serve it, in order; `local` is the login of the machine. */
  readonly providers: readonly string[]
}

/** By name. Providers that are disabled, or of other pools than the token's, do not count. */
export async function modelsFor({ catalog }: Pick<Deps, 'catalog'>, { tenant, narrowing }: Pick<Principal, 'tenant' | 'narrowing'>): Promise<KnownModel[]> {
  const rows = await catalog.providers(tenant)
  const { pools, models } = narrowing
  const usable = rows.filter((row) => row.enabled && (row.pools === null || pools === undefined || row.pools.some((pool) => pools.includes(pool))))
  const names = models ?? [...ALIASES, ...usable.flatMap(({ models: own, modelMap }) => [...(own ?? []), ...Object.keys(modelMap)])]
  // Without any provider the login of the machine pays, and takes what its CLI takes.
  const servedBy = (name: string) => (rows.length === 0 ? ['local'] : usable.filter((row: ProviderRow) => serves(row, name)).map(({ id }) => id))
  return [...new Set(names)]
    .toSorted()
    .map((name) => ({ name, providers: servedBy(name) }))
    .filter(({ providers }) => providers.length > 0)
}
