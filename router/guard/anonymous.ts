/**
 * Who is calling without a token, where an operator has said that somebody may: on the routes of one dialect, whose server
 * knew no tokens at all. A token that is brought there is looked at like everywhere, so a bad one is never nobody's.
 *
 * Nobody has the fewest rights there are: to run, within the bounds of the setting, and to look at that.
 */
import { Fault } from '../../shared/faults.ts'
import type { Scope } from '../core/scopes.ts'
import type { Deps, Principal } from '../ports.ts'
import { refuseByTenant, type Admission } from './admission.ts'

const SCOPES: ReadonlySet<Scope> = new Set(['runs:write', 'runs:read', 'sessions:read'])
/** In place of the id of a token: what everybody without one has spent is counted together. */
export const ANONYMOUS = 'anonymous'

type Needs = Pick<Deps, 'catalog'>

/** Undefined where nobody may. Throws `forbidden` for a disabled tenant. */
export async function admitAnonymous(deps: Needs): Promise<Admission | undefined> {
  const setting = await settingOf(deps)
  if (!setting) return undefined
  const { tenant } = setting
  await refuseDisabled(deps, tenant)
  const recheck = async () => {
    if ((await settingOf(deps))?.tenant !== tenant) throw new Fault('unauthenticated', 'nobody may call without a token any more')
    await refuseDisabled(deps, tenant)
  }
  return { who: principalOf(setting), recheck }
}

/** Of a family that is switched off nothing is left, an open stream included. */
async function settingOf({ catalog }: Needs) {
  const { enabled, anonymous } = (await catalog.compat()).claude_code_api
  return enabled ? anonymous : undefined
}

/**
 * Holds the tools that a request allows itself against the setting, where nobody in particular asks: without a token
 * `allowedTools: ["Bash"]` is a shell for everybody who can reach the router. Throws `forbidden`.
 */
export async function mustMayAllow(deps: Needs, who: Principal, field: string, rules: readonly string[] = []): Promise<void> {
  if (who.jti !== ANONYMOUS || rules.length === 0) return
  const good = new Set((await settingOf(deps))?.allowed_tools)
  const other = rules.find((rule) => !good.has(rule))
  if (other !== undefined) throw new Fault('forbidden', `${field}: ${other.slice(0, 64)} takes a token: nobody may allow himself that tool without one`, { extra: { field } })
}

/** Revoking the tokens of a tenant says nothing of those who have none: that is what the setting is for. */
async function refuseDisabled({ catalog }: Needs, tenant: string): Promise<void> {
  const row = await catalog.tenant(tenant)
  refuseByTenant(tenant, row && { disabledAt: row.disabledAt, revokedBefore: null }, 0)
}

function principalOf({ tenant, narrowing = {} }: NonNullable<Awaited<ReturnType<typeof settingOf>>>): Principal {
  return {
    kind: 'app',
    tenant,
    subject: ANONYMOUS,
    scopes: SCOPES,
    jti: ANONYMOUS,
    narrowing,
    issuedAt: 0,
    expiresAt: Number.MAX_SAFE_INTEGER,
    from: 'credential',
    pool: undefined,
  }
}
