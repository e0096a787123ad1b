/**
 * Why a CLI that was started cannot do what the spec asks: from what it prints, and from what it says it knows.
 *
 * Under stream-json input an unknown `--agent` is no error to the CLI: it goes on with its default prompt. So the agents
 * it lists in its answer to `initialize` are held against the spec. The texts are those of 2.1.197.
 */
import { Fault, type FaultCode } from '../../shared/faults.ts'
import type { RunSpec } from '../../shared/run-spec.ts'

const TEXTS: readonly (readonly [RegExp, FaultCode, string])[] = [
  // Printed as an error result and on stderr, before any answer to `initialize`; also for another folder's session.
  [/No conversation found/, 'session_not_found', 'the session is not on this runner, or not in this folder'],
  // Its transcript exists, so it can be resumed but not begun. Trying again would not help, as it does with a busy session.
  [/Session ID \S+ is already in use/, 'invalid_request', 'the session id is already in use: resume it, or take another one'],
  [/cannot be used with root/, 'policy', 'permissions cannot be bypassed: the runner works as root'],
  [/Invalid MCP configuration/, 'invalid_request', 'mcp_config is not a valid MCP configuration'],
]

/** `printed` is all that the CLI printed before it gave up. */
export function refusalOf(printed: string, code: number | null): Fault {
  for (const [text, fault, message] of TEXTS) {
    if (text.test(printed)) return new Fault(fault, message)
  }
  return new Fault('cli', `the CLI ended before it was ready (${code === null ? 'by a signal' : `exit code ${code}`})`)
}

/** Holds the spec against the answer to `initialize`. */
export function unknownAgent(spec: RunSpec, initialized: Readonly<Record<string, unknown>>): Fault | undefined {
  const known = new Set(agentNames(initialized['agents']))
  const dropped = Object.keys(spec.agents ?? {}).filter((name) => !known.has(name))
  if (dropped.length > 0) return new Fault('invalid_request', short(`the CLI does not take these agents: ${dropped.join(', ')}`))
  if (spec.agent === undefined || known.has(spec.agent)) return undefined
  return new Fault('agent_not_found', short(`no agent ${spec.agent}; there are ${[...known].join(', ')}`))
}

function short(text: string): string {
  return text.length > 500 ? `${text.slice(0, 499)}…` : text
}

function agentNames(agents: unknown): string[] {
  if (!Array.isArray(agents)) return []
  return agents.flatMap((agent: unknown) => {
    const name = typeof agent === 'object' && agent !== null && 'name' in agent ? agent.name : undefined
    return typeof name === 'string' ? [name] : []
  })
}
