/**
 * Which headers of a request and of its answer go on, and which end here: those of one connection, those that name or
 * prove somebody, and whatever quotes a secret.
 */

export type HeaderMap = Readonly<Record<string, string | string[] | undefined>>

/** RFC 9110 §7.6.1, and what is named by `Connection` besides. */
const HOP_BY_HOP = [
  'connection',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]

type Headers = Record<string, string | string[]>

const REQUEST_STAYS = new Set([
  ...HOP_BY_HOP,
  'host',
  'content-length',
  'expect',
  'cookie',
  'authorization',
  'x-api-key',
  'forwarded',
  'x-forwarded-for',
  'x-forwarded-host',
  'x-forwarded-proto',
  // Bodies are read for their token counts on the way; the loopback hop gains nothing by compression.
  'accept-encoding',
])

/** Bytes are passed on as they come, so length and encoding of the body stay true. */
const RESPONSE_STAYS = new Set([...HOP_BY_HOP, 'set-cookie', 'alt-svc'])

/** `own` are the provider's: they replace what the CLI sent under the same name. */
export function requestHeaders(given: HeaderMap, own: Readonly<Record<string, string>>, token: string): Headers {
  return { ...kept(given, REQUEST_STAYS, [token]), 'accept-encoding': 'identity', ...own }
}

export function responseHeaders(given: HeaderMap, secrets: readonly string[]): Headers {
  return kept(given, RESPONSE_STAYS, secrets)
}

/** A token (RFC 9110 §5.6.2) and printable ASCII. */
const HEADER_LINE = /^\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*:\s*([\x20-\x7e]*)$/

/** Headers that a provider may be given besides its key: `Name: value` lines, as in `ANTHROPIC_CUSTOM_HEADERS`. */
export function customHeaders(lines: string): Record<string, string> {
  const headers: Record<string, string> = {}
  for (const line of lines.split('\n')) {
    const [, name = '', value = ''] = HEADER_LINE.exec(line.replace(/\r$/, '')) ?? []
    if (name !== '' && !REQUEST_STAYS.has(name.toLowerCase())) headers[name.toLowerCase()] = value.trim()
  }
  return headers
}

function kept(given: HeaderMap, stays: ReadonlySet<string>, secrets: readonly string[]): Headers {
  const named = new Set(listed(given['connection']))
  const headers: Headers = {}
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined || stays.has(name) || named.has(name)) continue
    const text = String(value)
    if (!secrets.some((secret) => secret !== '' && text.includes(secret))) headers[name] = value
  }
  return headers
}

function listed(value: string | string[] | undefined): string[] {
  return String(value ?? '')
    .toLowerCase()
    .split(',')
    .map((name) => name.trim())
}
