/**
 * What the token of a request leaves of what it asks for: pools, models and permission modes. Whatever is named has to be
 * allowed, and the refusal says what is; what is not named is filled in from the token, so that nothing is left to the
 * defaults of a machine that knows of no token.
 *
 * Budgets and rates of a token are counted elsewhere (router/limits). A model that the CLI chooses by itself, for one of
 * its own agents, is not seen here.
 */
import { Fault } from '../../shared/faults.ts'
import type { CliOptions } from '../../shared/run-spec.ts'
import type { Narrowing } from '../../shared/tenant-settings.ts'

export const DEFAULT_POOL = 'default'
const DEFAULT_MODE = 'default'

/** Where a run goes that names no pool: the usual one, or the first of the token's when that is not among them. */
export function poolOf({ pools }: Narrowing, asked: string | undefined): string {
  const pool = asked ?? (pools && !pools.includes(DEFAULT_POOL) ? pools[0] : undefined) ?? DEFAULT_POOL
  refusePool({ pools }, pool)
  return pool
}

/** Throws `forbidden`. For a session the pool is that of its machine, which nobody has named. */
export function refusePool({ pools }: Narrowing, pool: string): void {
  if (pools) allow('pool', pool, pools)
}

/** Throws `forbidden`. Agents are held to the same as the run: their own mode and model replace those of the run. */
export function narrowedCli(narrowing: Narrowing, cli: CliOptions): CliOptions {
  const { models, permission_modes: modes } = narrowing
  const { model = models?.[0], permission_mode: mode = modes && firstMode(modes) } = cli
  if (models) {
    if (model === undefined) throw new Fault('forbidden', 'model: the token is good for no model', { extra: { field: 'model', allowed: [] } })
    allow('model', model, models)
    if (cli.fallback_model !== undefined) allow('fallback_model', cli.fallback_model, models)
  }
  if (modes) {
    if (mode === undefined) throw new Fault('forbidden', 'permission_mode: the token is good for no permission mode', { extra: { field: 'permission_mode', allowed: [] } })
    allow('permission_mode', mode, modes)
  }
  for (const [name, agent] of Object.entries(cli.agents ?? {})) {
    const { model: its, permissionMode } = agent
    // `inherit` is the run's own, as is no model at all.
    if (models && its !== undefined && its !== 'inherit') allow(`agents.${name}.model`, its, models)
    if (modes && permissionMode !== undefined) allow(`agents.${name}.permissionMode`, permissionMode, modes)
  }
  return { ...cli, ...(model === undefined ? {} : { model }), ...(mode === undefined ? {} : { permission_mode: mode }) }
}

/** A model that nobody has named, for as long as the token is good for it. */
export function goodModel({ models }: Narrowing, usual: string | null | undefined): string | undefined {
  return usual && (models?.includes(usual) ?? true) ? usual : undefined
}

function firstMode<M extends string>(modes: readonly M[]): M | undefined {
  return modes.find((mode) => mode === DEFAULT_MODE) ?? modes[0]
}

function allow(field: string, value: unknown, allowed: readonly string[]): void {
  if (allowed.some((one) => one === value)) return
  const list = allowed.length === 0 ? 'none at all' : allowed.join(', ')
  throw new Fault('forbidden', `${field}: the token allows ${list}`.slice(0, 512), { extra: { field: field.slice(0, 128), allowed: [...allowed] } })
}
