/**
 * One line of the CLI's stdout: an event to pass on byte for byte, a control message for the driver, or neither.
 *
 * A line is parsed once, and only to read from it; what travels are its bytes. Unknown types are events: the CLI adds
 * some with each version. Stdout can be forged by a tool of the same user, so nothing here is proof.
 */
import { z } from 'zod'
import { CostUsd, TokenCount } from '../../shared/amounts.ts'
import type { GapMark, RawMark } from '../../shared/marks.ts'
import { isPlainEvent } from './plain-event.ts'

/** A line that cannot be an event is kept up to this size: as base64 it still fits one message. */
const RAW_CAP = 128 * 1024
const CR = 0x0d

const count = z.int().nonnegative().catch(0)
const tokens = TokenCount.catch(0)
const Usage = z.object({
  input_tokens: tokens,
  output_tokens: tokens,
  cache_creation_input_tokens: tokens,
  cache_read_input_tokens: tokens,
})

/** What is read of a `result`. A field that went missing with a new version is read as its zero, and `is_error` as true. */
export const CliResult = z.object({
  subtype: z.string().catch(''),
  is_error: z.boolean().catch(true),
  api_error_status: z.int().nullable().catch(null),
  terminal_reason: z.string().catch(''),
  stop_reason: z.string().nullable().catch(null),
  result: z.string().catch(''),
  errors: z.array(z.string()).catch([]),
  num_turns: count,
  total_cost_usd: CostUsd.catch(0),
  usage: Usage.catch({ input_tokens: 0, output_tokens: 0, cache_creation_input_tokens: 0, cache_read_input_tokens: 0 }),
})
export type CliResult = z.infer<typeof CliResult>

export type News =
  | { type: 'init'; sessionId: string; model: string; version: string }
  /** The end of the turn. */
  | { type: 'result'; result: CliResult }
  /** The end of a turn that the CLI began by itself: its result has an `origin`. */
  | { type: 'unasked'; result: CliResult }
  /** A tool or a hook is at work, or was. `passes`: nothing of it is left in the CLI when the turn is over. */
  | { type: 'tool'; passes: boolean }
  /** The category that the CLI gives a failed API call, on its synthetic assistant message. */
  | { type: 'api_error'; category: string }
  | { type: 'api_retry'; status: number | null; category: string }

export type Control =
  | { type: 'answer'; id: string; error?: string; response: Record<string, unknown> }
  | { type: 'request'; id: string }
  | { type: 'other' }

export type Output =
  | { kind: 'event'; news?: News }
  | { kind: 'control'; control: Control }
  | { kind: 'raw'; mark: RawMark | GapMark }

type Json = Record<string, unknown>

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** Of all that is a plain event. */
export const PLAIN: Output = { kind: 'event' }

export function readOutput(bytes: Uint8Array): Output {
  return isPlainEvent(bytes) ? PLAIN : parseOutput(bytes)
}

function parseOutput(bytes: Uint8Array): Output {
  const text = decode(bytes)
  const json = text === undefined || bytes.includes(CR) ? undefined : parseObject(text)
  if (!json) return { kind: 'raw', mark: rawMark(bytes, text) }
  const control = controlOf(json)
  if (control) return { kind: 'control', control }
  const news = newsOf(json)
  return news ? { kind: 'event', news } : { kind: 'event' }
}

function controlOf(json: Json): Control | undefined {
  switch (json['type']) {
    case 'control_response': {
      const answer = asObject(json['response'])
      const response = asObject(answer['response'])
      const error = answer['subtype'] === 'success' ? {} : { error: asText(answer['error']) || 'no reason given' }
      return { type: 'answer', id: asText(answer['request_id']), response, ...error }
    }
    case 'control_request':
      return { type: 'request', id: asText(json['request_id']) }
    case 'control_cancel_request':
    case 'keep_alive':
      return { type: 'other' }
    case 'user':
      // What was written to stdin, said back.
      return json['isReplay'] === true ? { type: 'other' } : undefined
    default:
      return undefined
  }
}

function newsOf(json: Json): News | undefined {
  switch (json['type']) {
    case 'result':
      return { type: 'origin' in json ? 'unasked' : 'result', result: CliResult.parse(json) }
    case 'assistant': {
      const category = asText(json['error'])
      // A subagent's failure is its caller's to handle.
      if (category && typeof json['parent_tool_use_id'] !== 'string') return { type: 'api_error', category }
      return toolNews(json)
    }
    case 'system':
      return systemNews(json)
    default:
      return undefined
  }
}

/**
 * What they do is in files and in the transcript. Others change the CLI itself, and the turns that follow: EnterWorktree its
 * directory, CronCreate what it begins by itself (2.1.197). One that is not known here may be such.
 */
const PASSING = new Set([
  'Agent', 'AskUserQuestion', 'Bash', 'BashOutput', 'Edit', 'Glob', 'Grep', 'KillShell', 'LS', 'MultiEdit', 'NotebookEdit',
  'NotebookRead', 'Read', 'Skill', 'StructuredOutput', 'Task', 'TodoWrite', 'WebFetch', 'WebSearch', 'Write',
])

/** The line is printed before its tool is started (2.1.197). */
function toolNews(json: Json): News | undefined {
  const { content } = asObject(json['message'])
  const blocks = Array.isArray(content) ? content.map(asObject).filter(({ type }) => asText(type).endsWith('tool_use')) : []
  if (blocks.length === 0) return undefined
  return { type: 'tool', passes: blocks.every(({ name }) => PASSING.has(asText(name)) || asText(name).startsWith('mcp__')) }
}

function systemNews(json: Json): News | undefined {
  if (/^(?:task|hook)_/.test(asText(json['subtype']))) return { type: 'tool', passes: true }
  if (json['subtype'] === 'init') {
    const { session_id, model, claude_code_version } = json
    return { type: 'init', sessionId: asText(session_id), model: asText(model), version: asText(claude_code_version) }
  }
  if (json['subtype'] === 'api_retry') {
    const status = json['error_status']
    return { type: 'api_retry', status: typeof status === 'number' ? status : null, category: asText(json['error']) }
  }
  return undefined
}

function rawMark(bytes: Uint8Array, text: string | undefined): RawMark | GapMark {
  if (bytes.length > RAW_CAP) return { kind: 'gap', reason: 'line_too_long', bytes: bytes.length }
  if (text !== undefined) return { kind: 'raw', encoding: 'utf8', data: text }
  return { kind: 'raw', encoding: 'base64', data: Buffer.from(bytes).toString('base64') }
}

function decode(bytes: Uint8Array): string | undefined {
  try {
    return decoder.decode(bytes)
  } catch {
    return undefined
  }
}

function parseObject(text: string): Json | undefined {
  try {
    const json: unknown = JSON.parse(text)
    return isObject(json) ? json : undefined
  } catch {
    return undefined
  }
}

function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function asObject(value: unknown): Json {
  return isObject(value) ? value : {}
}

function asText(value: unknown): string {
  return typeof value === 'string' ? value : ''
}
