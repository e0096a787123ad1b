/**
 * Lines for the CLI's stdin: the user's message and control requests. One JSON object per line, escaped by the encoder,
 * because a line that the CLI cannot parse ends its process.
 *
 * The prompt arrives with its `@file` mentions already guarded; only the slash guard is applied here.
 */
import type { RunSpec } from '../../shared/run-spec.ts'

/**
 * The user's message. `uuid` is its idempotency key inside the process.
 *
 * A text that begins with `/` is a command to the CLI: `/config permissionMode=…` writes settings. After a newline it is
 * plain text to it and unchanged in meaning to the model (2.1.197 and 2.1.329).
 */
export function userLine(prompt: string, uuid: string): string {
  const content = prompt.trimStart().startsWith('/') ? `\n${prompt}` : prompt
  return line({ type: 'user', message: { role: 'user', content }, parent_tool_use_id: null, uuid })
}

/**
 * Readiness probe and carrier of long texts. 2.1.197 honours all four fields here as it does by flag; `systemPrompt`
 * also replaces the prompt of the `agent` that is in use. One malformed agent makes it drop all of them without a word.
 */
export function initializeLine(id: string, spec: RunSpec): string {
  return request(id, {
    subtype: 'initialize',
    systemPrompt: spec.system_prompt,
    appendSystemPrompt: spec.append_system_prompt,
    agents: spec.agents,
    jsonSchema: spec.json_schema,
  })
}

/** Answered with `{version}`; `initialize` does not tell it. */
export function versionLine(id: string): string {
  return request(id, { subtype: 'get_binary_version' })
}

/** Ends the turn in 5 to 50 ms, kills the running tool, and still gives a result. */
export function interruptLine(id: string): string {
  return request(id, { subtype: 'interrupt' })
}

/** Says no to a request of the CLI: none is expected, and one without an answer would hang the turn. */
export function refusalLine(id: string): string {
  return line({ type: 'control_response', response: { subtype: 'error', request_id: id, error: 'not supported' } })
}

function request(id: string, body: Record<string, unknown>): string {
  return line({ type: 'control_request', request_id: id, request: body })
}

function line(message: unknown): string {
  return `${JSON.stringify(message)}\n`
}
