/**
 * The body of `POST /api/claude`, as Fastify's Ajv took it: fields by several names, values that are turned into what
 * belongs there where that can be done, and one sentence for the first thing that cannot.
 */
import { CliOptions, RunSpec } from '../../../shared/run-spec.ts'
import { Fault } from '../../../shared/faults.ts'
import { OnDisconnect, patienceMs } from '../kit/disconnect.ts'
import { rulesIn } from '../kit/rules.ts'

export interface Asked {
  readonly prompt: string
  /** As it was written, so it may be anything. */
  readonly session: string | undefined
  readonly workspace: string | undefined
  readonly cli: CliOptions
  readonly onDisconnectMs: number | null
}

type Body = Readonly<Record<string, unknown>>

/** Of the older JSON route of ccs under the same path, which has moved. */
const OF_CCS = ['project_path', 'async', 'webhook_url', 'max_budget_usd', 'allowed_tools']

/** Throws `invalid_request` with a sentence of Ajv's. */
export function readBody(body: unknown): Asked {
  if (typeof body !== 'object' || body === null || Array.isArray(body)) throw invalid('body must be object')
  const fields = body as Body
  const foreign = OF_CCS.find((field) => there(fields, field))
  if (foreign !== undefined) throw invalid(`body/${foreign} is a field of ccs: its requests go to /api/messages`)
  if (!there(fields, 'prompt')) throw invalid("body must have required property 'prompt'")
  const prompt = textOf(fields, 'prompt') ?? ''
  if (prompt.trim() === '') throw invalid('body/prompt must NOT be blank')
  const disconnect = OnDisconnect.safeParse(fields['on-disconnect'] ?? 'cancel')
  if (!disconnect.success) throw invalid('body/on-disconnect must be cancel, detach or {"detach_for_s": seconds}')
  const session = one(fields, 'session_id', 'session-id')
  return { prompt, session, workspace: workspaceOf(fields), cli: cliOf(fields), onDisconnectMs: patienceMs(disconnect.data) }
}

function cliOf(fields: Body): CliOptions {
  const allowed = [...(listOf(fields, 'allowedTools', 'allowed-tools') ?? []), ...(listOf(fields, 'mcp-allowed-tools') ?? [])]
  const disallowed = listOf(fields, 'disallowedTools', 'disallowed-tools') ?? []
  const systemPrompt = one(fields, 'system-prompt')
  const bypass = flagOf(fields, 'dangerously-skip-permissions')
  const read = CliOptions.safeParse({
    ...(allowed.length === 0 ? {} : { allowed_tools: allowed }),
    ...(disallowed.length === 0 ? {} : { disallowed_tools: disallowed }),
    ...(systemPrompt === undefined ? {} : { system_prompt: systemPrompt }),
    ...(bypass ? { permission_mode: 'bypassPermissions' } : {}),
  })
  if (read.success) return read.data
  const [issue] = read.error.issues
  const [field = '', ...path] = issue?.path ?? []
  throw invalid(`body/${[NAMES[field as keyof CliOptions] ?? String(field), ...path].join('/')} ${issue?.message ?? 'is not valid'}`)
}

const NAMES: Partial<Record<keyof CliOptions, string>> = { allowed_tools: 'allowedTools', disallowed_tools: 'disallowedTools', system_prompt: 'system-prompt' }

function workspaceOf(fields: Body): string | undefined {
  const name = one(fields, 'workspace')
  const read = RunSpec.shape.workspace.safeParse(name)
  if (!read.success) throw invalid(`body/workspace ${read.error.issues[0]?.message ?? 'is not valid'}`)
  return read.data
}

const there = (fields: Body, name: string) => Object.hasOwn(fields, name) && fields[name] !== null && fields[name] !== undefined

/** The one of these names that is there; an empty text is as good as none. */
function one(fields: Body, ...names: string[]): string | undefined {
  const texts = names.map((name) => textOf(fields, name)).filter((text) => text !== undefined && text !== '')
  if (new Set(texts).size > 1) throw invalid(`body/${names.join(' and body/')} must be the same`)
  return texts[0]
}

function textOf(fields: Body, name: string): string | undefined {
  if (!there(fields, name)) return undefined
  const value = fields[name]
  if (typeof value === 'string') return value
  if (typeof value === 'number' || typeof value === 'boolean') return String(value)
  throw invalid(`body/${name} must be string`)
}

function flagOf(fields: Body, name: string): boolean {
  if (!there(fields, name)) return false
  const value = fields[name]
  if (value === true || value === 'true' || value === 1) return true
  if (value === false || value === 'false' || value === 0) return false
  throw invalid(`body/${name} must be boolean`)
}

/** All of these names together. One text is a list of one; a text may hold several rules, as it became one argument. */
function listOf(fields: Body, ...names: string[]): string[] | undefined {
  const lists = names.filter((name) => there(fields, name)).map((name) => itemsOf(fields[name], name))
  return lists.length === 0 ? undefined : lists.flat()
}

function itemsOf(value: unknown, name: string): string[] {
  const list = Array.isArray(value) ? (value as unknown[]) : [value]
  const isText = (item: unknown): item is string => typeof item === 'string'
  const at = list.findIndex((item) => !isText(item))
  if (at >= 0) throw invalid(Array.isArray(value) ? `body/${name}/${at} must be string` : `body/${name} must be array`)
  return list.filter(isText).flatMap(rulesIn)
}

const invalid = (message: string) => new Fault('invalid_request', message.slice(0, 512))
