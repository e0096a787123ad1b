/**
 * What of a provider's `env` may reach the CLI on this machine. The list names what is let in: the environment decides
 * where keys go, which programs start and what the CLI refuses, and a router is not to have a say in any of it.
 */

const NAMES = new Set([
  'ANTHROPIC_MODEL',
  'ANTHROPIC_SMALL_FAST_MODEL',
  'ANTHROPIC_BETAS',
  'API_TIMEOUT_MS',
  'MAX_THINKING_TOKENS',
  'MAX_MCP_OUTPUT_TOKENS',
  'DISABLE_PROMPT_CACHING',
  'DISABLE_INTERLEAVED_THINKING',
])
const PREFIXES = ['ANTHROPIC_DEFAULT_', 'DISABLE_PROMPT_CACHING_'] as const
/** Of `CLAUDE_CODE_*` most choose a back end, a helper program, a folder or lift a guard; these tune requests. */
const CLAUDE_CODE = new Set([
  'AUTO_COMPACT_WINDOW',
  'DISABLE_1M_CONTEXT',
  'DISABLE_ADAPTIVE_THINKING',
  'DISABLE_EXPERIMENTAL_BETAS',
  'DISABLE_THINKING',
  'EFFORT_LEVEL',
  'EXTRA_BODY',
  'MAX_OUTPUT_TOKENS',
  'SUBAGENT_MODEL',
])

/** They speak to the gateway, which applies them itself: see `payerHeaders`. */
const FOR_GATEWAY = new Set(['ANTHROPIC_API_KEY', 'ANTHROPIC_AUTH_TOKEN', 'ANTHROPIC_CUSTOM_HEADERS'])

export function providerEnv(given: Readonly<Record<string, string>>): { env: Record<string, string>; ignored: string[] } {
  const env: Record<string, string> = {}
  const ignored: string[] = []
  for (const [name, value] of Object.entries(given)) {
    if (isAllowed(name)) env[name] = value
    else if (!FOR_GATEWAY.has(name)) ignored.push(name)
  }
  return { env, ignored }
}

function isAllowed(name: string): boolean {
  if (name.startsWith('CLAUDE_CODE_')) return CLAUDE_CODE.has(name.slice('CLAUDE_CODE_'.length))
  return NAMES.has(name) || PREFIXES.some((prefix) => name.startsWith(prefix))
}
