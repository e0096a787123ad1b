/** What a gateway is told of the providers that its run may use: their order is decided, and their keys are sealed. */
import type { Grant, Grants } from '../../shared/grants.ts'
import type { Routing } from '../../shared/tenant-settings.ts'
import { standingOf } from '../core/breaker.ts'
import { both } from '../core/model-names.ts'
import type { Dispatch } from '../ports.ts'
import type { HealthRow } from '../store/provider-health.ts'
import type { ProviderRow } from '../store/providers.ts'

export type Sealed = { readonly row: ProviderRow; readonly api: Grant['api'] }

type Granting = { d: Dispatch; routing: Routing; health: readonly HealthRow[]; now: number; probed: readonly string[] }

/** The first one's env is the CLI's, which gives names of models their meaning; of the others only the gateway's part is needed. */
export function grantsOf(line: readonly Sealed[], { d, routing, health, now, probed }: Granting): Grants {
  const recoveryMs = Math.round(routing.recovery_s * 1_000)
  const cliEnv = line[0]?.row.env ?? {}
  return {
    providers: line.map(({ row, api }, i) => ({
      provider: row.id,
      version: row.version,
      models: mayAskFor(row, d.spec.models, cliEnv),
      ...(api && { api }),
      env: i === 0 ? row.env : gatewayPart(row.env),
      model_map: row.modelMap,
      ...(row.prices && { prices: row.prices }),
      ...openOf(health, row.id, i === 0 ? probed : [], now, recoveryMs),
    })),
    headers_timeout_ms: Math.round(routing.headers_timeout_s * 1_000),
    failure_threshold: routing.failure_threshold,
    recovery_ms: recoveryMs,
  }
}

/** What both the provider and the token of the run are for. What the provider has another name for, it serves. */
function mayAskFor({ models, modelMap }: ProviderRow, narrowed: readonly string[] | undefined, env: ProviderRow['env']): string[] | null {
  return both(models && [...new Set([...models, ...Object.keys(modelMap)])], narrowed ?? null, env)
}

const KEY_NAMES = ['ANTHROPIC_API_KEY', 'ANTHROPIC_AUTH_TOKEN'] as const

/** Headers of its own, and which name of the key it does not want. */
function gatewayPart(env: ProviderRow['env']): ProviderRow['env'] {
  const headers = env['ANTHROPIC_CUSTOM_HEADERS']
  const blank = KEY_NAMES.filter((name) => env[name] === '').map((name) => [name, ''] as const)
  return { ...(headers === undefined ? {} : { ANTHROPIC_CUSTOM_HEADERS: headers }), ...Object.fromEntries(blank) }
}

/**
 * What the gateway is to know of the breakers, in durations: clocks of machines differ. What this run was chosen to try is
 * not open for it. A provider that is due and not its to try is, for as long as one that has just opened; a model that is due
 * is for whoever asks for it, as often the CLI alone knows who will.
 */
function openOf(health: readonly HealthRow[], provider: string, probed: readonly string[], now: number, recoveryMs: number): Pick<Grant, 'open_ms' | 'open_models'> {
  const open = health.flatMap((row): [string, number | null][] => {
    const at = standingOf(row, now)
    if (row.provider !== provider || at.is === 'closed' || probed.includes(row.model)) return []
    if (at.is === 'due' && row.model !== '') return []
    return [[row.model, at.is === 'due' ? recoveryMs : at.until && at.until - now]]
  })
  const own = open.find(([model]) => model === '')
  const models = open.filter(([model]) => model !== '')
  return { ...(own && { open_ms: own[1] }), ...(models.length > 0 && { open_models: Object.fromEntries(models) }) }
}
