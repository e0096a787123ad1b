/**
 * Where a request may carry its token: `Authorization: Bearer`, `x-api-key`, or the password of Basic, so that clients
 * of older servers need no new header. Never in the URL: those end up in logs, histories and `Referer`.
 *
 * What the token is worth is judged elsewhere.
 */
import { Fault } from '../../shared/faults.ts'
import { MAX_TOKEN_BYTES } from './tokens.ts'

/** b64token of RFC 6750 §2.1. */
const TOKEN = /^[A-Za-z0-9\-._~+/]+=*$/
const HOW = 'send it as `Authorization: Bearer <token>`'

/**
 * The token of a request; throws `unauthenticated` when there is none, or none that is clear.
 * Never quotes a header: it may be the secret.
 */
export function readToken(headers: Headers): string {
  const authorization = headers.get('authorization')
  const apiKey = headers.get('x-api-key')
  for (const value of [authorization, apiKey]) {
    // Base64 of Basic makes a token a third longer, so the bound on the header is loose; the token has its own.
    if (value !== null && value.length > 2 * MAX_TOKEN_BYTES) throw refuse(`the token is longer than ${MAX_TOKEN_BYTES} bytes`)
  }
  const tokens = new Set<string>()
  if (authorization !== null) tokens.add(fromScheme(authorization))
  if (apiKey !== null) tokens.add(checked(apiKey, 'x-api-key'))
  const [token, other] = tokens
  if (token === undefined) throw refuse(`there is no token: ${HOW}`)
  // Some SDKs send the same one twice. With two different ones it is not for us to choose who is calling.
  if (other !== undefined) throw refuse('authorization and x-api-key carry different tokens')
  return token
}

function fromScheme(header: string): string {
  const space = header.indexOf(' ')
  const scheme = (space < 0 ? header : header.slice(0, space)).toLowerCase()
  const rest = space < 0 ? '' : header.slice(space + 1).trim()
  if (scheme === 'bearer') return checked(rest, 'authorization')
  if (scheme === 'basic') return checked(basicPassword(rest), 'the password of Basic')
  throw refuse(`the authorization header is neither Bearer nor Basic: ${HOW}`)
}

/** RFC 7617 §2: base64 of `user:password`. The user name is not looked at. */
function basicPassword(encoded: string): string {
  let pair: string
  try {
    pair = atob(encoded)
  } catch {
    throw refuse('the authorization header is not valid Basic')
  }
  const colon = pair.indexOf(':')
  if (colon < 0) throw refuse('the authorization header is not valid Basic')
  return pair.slice(colon + 1)
}

function checked(token: string, where: string): string {
  if (token.length > MAX_TOKEN_BYTES) throw refuse(`the token is longer than ${MAX_TOKEN_BYTES} bytes`)
  if (!TOKEN.test(token)) throw refuse(`${where} does not hold a token`)
  return token
}

function refuse(message: string): Fault {
  return new Fault('unauthenticated', message)
}

/** In lower case, with `-` as `_`. */
const TOKEN_PARAMETERS = new Set([
  'token',
  'access_token',
  'api_key',
  'apikey',
  'key',
  'jwt',
  'auth',
  'authorization',
  'x_api_key',
])
// A JWT: parts joined by dots, the first of which is base64url of `{"`, `{ ` or `{` and a line end. Or an enrolment token.
const LOOKS_LIKE_TOKEN = /(?:^|[^A-Za-z0-9_-])(?:(?:ey[AIJ]|ewo)[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*\.|ret_[A-Za-z0-9_-]{43})/

/** Throws `token_in_query` when the query of `url` carries a token, by the name of a parameter or by the look of its value. */
export function refuseTokenInQuery(url: string): void {
  const mark = url.indexOf('?')
  if (mark < 0) return
  const end = url.indexOf('#', mark)
  for (const [name, value] of new URLSearchParams(url.slice(mark + 1, end < 0 ? undefined : end))) {
    const plain = name.trim().toLowerCase().replaceAll('-', '_').replace(/\[.*$/, '')
    if (TOKEN_PARAMETERS.has(plain)) throw new Fault('token_in_query', `the query parameter "${plain}" is for a token: ${HOW}`)
    // Not quoted: a name can be the token, as in `?eyJ…`.
    if (LOOKS_LIKE_TOKEN.test(value) || LOOKS_LIKE_TOKEN.test(name))
      throw new Fault('token_in_query', `the query carries a token: ${HOW}`)
  }
}
