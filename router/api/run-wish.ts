/** From the native body of a run to what the engine is asked for: the defaults of the API, and what needs a scope of its own. */
import type { z } from '@hono/zod-openapi'
import { Fault } from '../../shared/faults.ts'
import { CliOptions } from '../../shared/run-spec.ts'
import type { Submission } from '../engine/submit.ts'
import type { Deps, Principal } from '../ports.ts'
import type { RunRequest } from './run-schemas.ts'

/** Interactive callers do not wait longer than this for a slot unless they say so. */
const QUEUE_TIMEOUT_S = 30
const DEFAULT_PRIORITY = 5

/** `later`: nobody waits for it, so it may be in the line for as long as it may take. Throws `forbidden`. */
export function wishOf({ settings }: Pick<Deps, 'settings'>, who: Principal, body: z.infer<typeof RunRequest>, later: boolean): Submission {
  const bypassing = bypassField(body)
  if (bypassing !== undefined && !who.scopes.has('runs:bypass')) {
    throw new Fault('forbidden', `${bypassing}: bypassPermissions needs the scope runs:bypass`, { extra: { field: bypassing } })
  }
  const timeoutS = body.timeout_s ?? settings.timeoutS
  return {
    prompt: body.prompt,
    cli: CliOptions.parse(body),
    sessionId: body.session_id,
    fork: body.fork_session ?? false,
    cwd: body.cwd,
    pool: body.pool,
    labels: body.labels ?? {},
    priority: body.priority ?? DEFAULT_PRIORITY,
    onBusy: body.on_busy ?? 'queue',
    timeoutS,
    queueTimeoutS: body.queue_timeout_s ?? (later ? timeoutS : QUEUE_TIMEOUT_S),
    onDisconnectMs: patienceMs(body.on_disconnect),
    metadata: body.metadata,
    origin: 'native',
    workspace: body.workspace,
    addDirs: body.add_dirs,
    maxLogBytes: body.max_log_bytes,
    webhook: body.webhook,
  }
}

function patienceMs(policy: z.infer<typeof RunRequest>['on_disconnect']): number | null {
  if (policy === undefined || policy === 'detach') return null
  return policy === 'cancel' ? 0 : policy.detach_for_s * 1_000
}

/** Where a run asks for no permission checks, for itself or for one of its agents: in CLI 2.1.197 an agent's mode replaces the run's. */
function bypassField({ permission_mode, agents }: CliOptions): string | undefined {
  if (permission_mode === 'bypassPermissions') return 'permission_mode'
  const agent = Object.entries(agents ?? {}).find(([, definition]) => definition['permissionMode'] === 'bypassPermissions')
  return agent && `agents.${agent[0]}.permissionMode`
}
