/**
 * Where a request may carry its token: `Authorization: Bearer`, `x-api-key`, or the password of Basic, so that clients
 * of older servers need no new header. Never in the URL: those end up in logs, histories and `Referer`.
 *
 * What the token is worth is judged elsewhere.
 */
import { Fault } from '../../shared/faults.ts'
import { MAX_TOKEN_BYTES } from './tokens.ts'

/**
 * Visible ASCII, less the two that quote and separate values in a header. Our tokens have fewer (b64token, RFC 6750 §2.1),
 * keys of older servers may have any of it.
 */
export const TOKEN = /^[\x21\x23-\x2b\x2d-\x7e]+$/
/** RFC 7617 §2 forbids control characters in both halves. */
// oxlint-disable-next-line no-control-regex -- that is what it looks for
export const CONTROL = /[\x00-\x1f\x7f]/
const HOW = 'send it as `Authorization: Bearer <token>`'

/** What a request brings: a token or key, or the user and password of Basic where that password is no token by its look. */
export type Presented = { readonly kind: 'token'; readonly token: string } | { readonly kind: 'pair'; readonly user: string; readonly password: string }

/** Whether a request carries something that claims to be a token, good or not. */
export const presentsAnything = (headers: Headers): boolean => headers.has('authorization') || headers.has('x-api-key')

/**
 * What a request carries; throws `unauthenticated` when there is nothing, or nothing that is clear.
 * Never quotes a header: it may be the secret.
 */
export function readPresented(headers: Headers): Presented {
  const authorization = headers.get('authorization')
  const apiKey = headers.get('x-api-key')
  for (const value of [authorization, apiKey]) {
    // Base64 of Basic makes a token a third longer, so the bound on the header is loose; the token has its own.
    if (value !== null && value.length > 2 * MAX_TOKEN_BYTES) throw refuse(`the token is longer than ${MAX_TOKEN_BYTES} bytes`)
  }
  const first = authorization === null ? undefined : fromScheme(authorization)
  const second = apiKey === null ? undefined : checked(apiKey, 'x-api-key')
  if (first && second && JSON.stringify(first) !== JSON.stringify(second)) {
    // Some SDKs send the same one twice. With two different ones it is not for us to choose who is calling.
    throw refuse('authorization and x-api-key carry different tokens')
  }
  const presented = first ?? second
  if (!presented) throw refuse(`there is no token: ${HOW}`)
  return presented
}

/** Three parts of base64url, the first of which could be the header of a JWT. Whether it is a good one is another question. */
export function looksLikeJwt(token: string): boolean {
  return /^e[yw][A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*$/.test(token)
}

function fromScheme(header: string): Presented {
  const space = header.indexOf(' ')
  const scheme = (space < 0 ? header : header.slice(0, space)).toLowerCase()
  const rest = space < 0 ? '' : header.slice(space + 1).trim()
  if (scheme === 'bearer') return checked(rest, 'authorization')
  if (scheme === 'basic') return basic(rest)
  throw refuse(`the authorization header is neither Bearer nor Basic: ${HOW}`)
}

/** RFC 7617 §2: base64 of `user:password` in UTF-8. Beside a token the user name is not looked at. */
function basic(encoded: string): Presented {
  let pair: string
  try {
    pair = new TextDecoder('utf-8', { fatal: true }).decode(Uint8Array.from(atob(encoded), (char) => char.charCodeAt(0)))
  } catch {
    throw refuse('the authorization header is not valid Basic')
  }
  const colon = pair.indexOf(':')
  if (colon < 0) throw refuse('the authorization header is not valid Basic')
  const user = pair.slice(0, colon)
  const password = pair.slice(colon + 1)
  if (password.length > MAX_TOKEN_BYTES) throw refuse(`the token is longer than ${MAX_TOKEN_BYTES} bytes`)
  if (password === '' || CONTROL.test(pair)) throw refuse('the password of Basic does not hold a token')
  return looksLikeJwt(password) || user === '' ? checked(password, 'the password of Basic') : { kind: 'pair', user, password }
}

function checked(token: string, where: string): Presented {
  if (token.length > MAX_TOKEN_BYTES) throw refuse(`the token is longer than ${MAX_TOKEN_BYTES} bytes`)
  if (!TOKEN.test(token)) throw refuse(`${where} does not hold a token`)
  return { kind: 'token', token }
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
