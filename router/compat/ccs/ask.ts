/**
 * What a request of ccs asks for, as a submission: its defaults filled in.
 *
 * `max_budget_usd` there is what a whole session may cost, and the CLI's is what one run may: submit() holds the one and
 * makes the other of what is left. Throws the fault of whatever cannot be asked for; what the token, the tenant and the
 * machine allow is held by submit() and the runner.
 */
import type { Context } from 'hono'
import { Fault } from '../../../shared/faults.ts'
import { McpServerName, RunSpec, type CliOptions } from '../../../shared/run-spec.ts'
import { mustFindMine, type SessionRow } from '../../engine/sessions.ts'
import type { Submission } from '../../engine/submit.ts'
import { goodModel } from '../../guard/narrow.ts'
import type { AppEnv } from '../../ports.ts'
import { checkedAddress } from '../../webhooks/address.ts'
import { mustMayBypass } from '../kit/bypass.ts'
import type { Continue, Message } from './schemas.ts'

export type Ask = Continue & Partial<Message>

export type Wish = Pick<Submission, 'prompt' | 'cli' | 'origin' | 'sessionId' | 'sessionUsd' | 'cwd' | 'priority' | 'timeoutS' | 'webhook'>

const DEFAULT_PRIORITY = 5

export async function wantedBy(c: Context<AppEnv>, ask: Ask, defaults: { readonly partial?: boolean } = {}): Promise<Wish> {
  const deps = c.get('deps')
  const { ccs } = await deps.catalog.compat()
  const session = ask.session_id === undefined ? undefined : await mustBeActive(c, ask.session_id)
  if (ask.permission_mode === 'bypassPermissions') mustMayBypass(c, 'permission_mode')
  const { narrowing } = c.get('principal')
  const model = ask.model ?? goodModel(narrowing, session?.model) ?? goodModel(narrowing, ccs.default_model)
  return {
    prompt: ask.prompt,
    // A budget of 0 is none for the CLI, which is not begun then.
    cli: cliOf(ask, { model, max_budget_usd: ask.max_budget_usd || undefined, include_partial_messages: defaults.partial }),
    origin: 'ccs',
    sessionId: session?.id,
    sessionUsd: ask.max_budget_usd ?? ccs.max_budget_usd,
    // A session stays where it is: clients name its project again with every request, as they know it.
    cwd: session && session.cwd !== null ? undefined : projectOf(ask.project_path ?? ccs.default_project_path),
    priority: ask.priority ?? DEFAULT_PRIORITY,
    timeoutS: ccs.timeout_s,
    webhook: await hookOf(c, ask.webhook_url),
  }
}

/** Throws `session_not_found`, in whatever way the id is none, and `session_inactive`. */
async function mustBeActive(c: Context<AppEnv>, id: string): Promise<SessionRow> {
  const session = await mustFindMine(c.get('deps'), c.get('principal').tenant, id)
  if (session.status !== 'active') throw new Fault('session_inactive', `Session is not active: ${session.status}`)
  return session
}

/** Throws `invalid_request` for an address that nobody should be told at. */
async function hookOf(c: Context<AppEnv>, url: string | undefined): Promise<Submission['webhook']> {
  if (url === undefined) return undefined
  try {
    return { url: await checkedAddress(c.get('deps').store.db, url, FIELD), format: 'ccs' }
  } catch (error) {
    if (!(error instanceof Fault) || error.code !== 'invalid_request') throw error
    throw new Fault(error.code, error.message.replace(`${FIELD}:`, FIELD), { extra: { field: 'webhook_url' } })
  }
}
const FIELD = '"webhook_url"'

/** The owner of the machine decides which directories are good; a home directory of ours is none of them. */
export function projectOf(path: string | undefined): string | undefined {
  if (!path?.startsWith('~')) return path
  const message = '"project_path" must be a path as the machine that runs it knows it: ~ is not expanded'
  throw new Fault('invalid_request', message, { extra: { field: 'project_path' } })
}

function cliOf(ask: Ask, set: Pick<CliOptions, 'model' | 'max_budget_usd' | 'include_partial_messages'>): CliOptions {
  const { system_prompt, allowed_tools, disallowed_tools, permission_mode, agent } = ask
  const all = { ...set, system_prompt, allowed_tools, disallowed_tools, permission_mode, agent, ...mcpOf(ask.mcp_config) }
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined))
}

/** In ccs a path on the server, so whoever could write there could run what he liked. */
function mcpOf(config: string | undefined): Pick<CliOptions, 'mcp_config' | 'mcp_servers'> {
  const text = config?.trim()
  if (text === undefined || text === '') return {}
  if (McpServerName.safeParse(text).success) return { mcp_servers: [text] }
  const read = RunSpec.shape.mcp_config.safeParse(parse(text))
  if (read.success && read.data !== undefined) return { mcp_config: read.data }
  const message = '"mcp_config" must be JSON text or the name of a server of the machine; a path is not read'
  throw new Fault('invalid_request', message, { extra: { field: 'mcp_config' } })
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}
