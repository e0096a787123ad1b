/**
 * Older servers ran everything without permission checks, whether anybody had asked for that or not. Here that default is
 * applied only where the token has the scope for it and the owner of a machine that fits allows it. Where it is not, the
 * run goes on without it, and one header of the answer says so. Whoever asks for it by name is refused by name instead.
 */
import type { Context } from 'hono'
import { Fault } from '../../../shared/faults.ts'
import type { CliOptions } from '../../../shared/run-spec.ts'
import type { AppEnv, OnlineRunner } from '../../ports.ts'

/** What the header is called that says that an implicit bypass was left out, and why. */
export const BYPASS_HEADER = 'runyard-bypass'
/** For the document. */
export const BYPASS_HEADERS = {
  [BYPASS_HEADER]: { description: '`not-applied; because=scope`, `token` or `policy`: the CLI runs with its permission checks.', schema: { type: 'string' as const } },
}

export interface Destination {
  readonly pool: string | undefined
  /** The runner that the session is on. */
  readonly runner?: string | null | undefined
}

/**
 * The mode that an old default stands for here: `bypassPermissions`, or undefined with the header set. Machines that are
 * not connected have no say, so it is asked of those that are.
 */
export async function implicitBypass(c: Context<AppEnv>, to: Destination): Promise<'bypassPermissions' | undefined> {
  const why = await whyNot(c, to)
  if (why === undefined) return 'bypassPermissions'
  c.header(BYPASS_HEADER, `not-applied; because=${why}`)
  return undefined
}

/** For a request that names the mode itself. What the owner of the machine thinks of it, the run hears. */
export function mustMayBypass(c: Context<AppEnv>, field: string): void {
  if (!c.get('principal').scopes.has('runs:bypass')) {
    throw new Fault('forbidden', `${field}: bypassPermissions needs the scope runs:bypass`, { extra: { field } })
  }
}

/** The same for every field that could name it: in CLI 2.1.197 the mode of an agent replaces that of the run. */
export function mustMayBypassIn(c: Context<AppEnv>, { permission_mode, agents }: Pick<CliOptions, 'permission_mode' | 'agents'>): void {
  if (permission_mode === 'bypassPermissions') mustMayBypass(c, 'permission_mode')
  for (const [name, agent] of Object.entries(agents ?? {})) {
    if (agent['permissionMode'] === 'bypassPermissions') mustMayBypass(c, `agents.${name}.permissionMode`)
  }
}

async function whyNot(c: Context<AppEnv>, to: Destination): Promise<'scope' | 'token' | 'policy' | undefined> {
  const { tenant, scopes, narrowing } = c.get('principal')
  if (!scopes.has('runs:bypass')) return 'scope'
  if (narrowing.permission_modes && !narrowing.permission_modes.includes('bypassPermissions')) return 'token'
  const online = await c.get('deps').hub.online(tenant)
  return online.some((runner) => fits(runner, to) && allows(runner)) ? undefined : 'policy'
}

const fits = ({ id, pool }: OnlineRunner, to: Destination) => (to.runner ? id === to.runner : pool === (to.pool ?? 'default'))
const allows = ({ policy }: OnlineRunner) => policy?.bypass === true
