/**
 * The environment of the CLI, built from an empty one: a name that is on no list here does not get in, because every
 * tool that the model runs inherits all of it.
 *
 * The caller says which provider variables there are and what the machine's owner lets through besides.
 */

export type EnvParts = {
  /** The environment of the runner itself. */
  runner: Readonly<Record<string, string | undefined>>
  /** `CLAUDE_CONFIG_DIR`: settings, transcripts and agents live there. */
  configDir: string
  /** Base URL, keys and the like, passed unchanged. Absent: the CLI uses the login in its config dir. */
  provider?: Readonly<Record<string, string>>
  /** The base URL is the gateway's, which holds the keys; no other way to a model is let in. */
  gateway?: boolean
  /** How often the CLI repeats a request that failed. */
  retries?: number
  /** The owner's list of further names to take from the runner's environment. */
  allow?: readonly string[]
  /** A UUID that the sweep looks for in `/proc`. It is not the run's id, which a tool must not learn. */
  marker: string
}

/** Names the process for the sweep. */
export const MARKER_NAME = 'RUNYARD_PROCESS'

const PASSED = ['PATH', 'HOME', 'LANG', 'LC_ALL', 'TZ', 'TMPDIR', 'SHELL', 'NODE_EXTRA_CA_CERTS', 'HTTPS_PROXY', 'NO_PROXY']

/** Whoever asks for these, they stay out. */
const REFUSED = new Set([
  // Writes its log onto stdout, between the events.
  'ANTHROPIC_LOG',
  'DEBUG',
  // Each lifts the CLI's refusal to bypass permissions as root.
  'IS_SANDBOX',
  'CLAUDE_CODE_BUBBLEWRAP',
  // Retries 429 and 529 without end.
  'CLAUDE_CODE_RETRY_WATCHDOG',
  'NODE_OPTIONS',
])

const FIXED = {
  CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: '1',
  DISABLE_AUTOUPDATER: '1',
  // Ten retries, the CLI's default, take three minutes.
  CLAUDE_CODE_MAX_RETRIES: '2',
  // A background shell that ends in the last five seconds starts a turn that nobody asked for, with its own result.
  CLAUDE_CODE_DISABLE_BACKGROUND_TASKS: '1',
  // The silent second request after a broken stream is billed again.
  CLAUDE_CODE_DISABLE_NONSTREAMING_FALLBACK: '1',
} as const

/** With the gateway these say where requests go and as whom, and the owner's list is not meant for that. */
const ROUTES = [
  /^ANTHROPIC_(?:API_KEY|AUTH_TOKEN|BASE_URL|CUSTOM_HEADERS|UNIX_SOCKET|BEDROCK_|VERTEX_|FOUNDRY_)/,
  /^CLAUDE_CODE_(?:OAUTH_|USE_|SKIP_|API_KEY)/,
]

export function claudeEnv(parts: EnvParts): Record<string, string> {
  const env: Record<string, string> = { PATH: '/usr/local/bin:/usr/bin:/bin' }
  const allowed = (parts.allow ?? []).filter((name) => parts.gateway !== true || !ROUTES.some((route) => route.test(name)))
  for (const name of [...PASSED, ...allowed]) put(env, name, parts.runner[name])
  for (const [name, value] of Object.entries(parts.provider ?? {})) put(env, name, value)
  // With this the settings files cannot send the provider's key elsewhere. With a login file the CLI routes by itself.
  if (parts.provider) env['CLAUDE_CODE_PROVIDER_MANAGED_BY_HOST'] = '1'
  // With HTTPS_PROXY the CLI sends plain http to the proxy as well, and that cannot reach this machine (seen on 2.1.197).
  if (parts.gateway === true) for (const name of ['NO_PROXY', 'no_proxy']) besides(env, name, '127.0.0.1')
  const retries = parts.retries === undefined ? {} : { CLAUDE_CODE_MAX_RETRIES: String(parts.retries) }
  return { ...env, ...FIXED, ...retries, CLAUDE_CONFIG_DIR: parts.configDir, [MARKER_NAME]: parts.marker }
}

/** The name in capitals is the one that is made where there is none. */
function besides(env: Record<string, string>, name: string, host: string): void {
  const value = env[name]
  if (value === '*' || (value === undefined && name !== 'NO_PROXY')) return
  env[name] = value ? `${value},${host}` : host
}

function put(env: Record<string, string>, name: string, value: string | undefined): void {
  if (value === undefined || REFUSED.has(name) || name.startsWith('RUNYARD_')) return
  env[name] = value
}

const SECRET_NAME = /KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL|AUTH|HEADERS/
/** Redacting shorter values would make holes into ordinary words. */
const MIN_SECRET_CHARS = 8

/** The values that must not appear in anything that is stored or shown, longest first. */
export function secretsIn(env: Readonly<Record<string, string>>): string[] {
  const values = Object.entries(env)
    .filter(([name]) => SECRET_NAME.test(name.toUpperCase()))
    // ANTHROPIC_CUSTOM_HEADERS is `Name: value` lines, and a message would quote only the value.
    .flatMap(([, value]) => [value, ...value.split('\n').map((line) => line.slice(line.indexOf(':') + 1).trim())])
  return [...new Set(values)].filter((value) => value.length >= MIN_SECRET_CHARS).toSorted((a, b) => b.length - a.length)
}

export function redact(text: string, secrets: readonly string[]): string {
  return secrets.reduce((clean, secret) => clean.replaceAll(secret, '[redacted]'), text)
}
