/**
 * How claude-code-api says "no": as Fastify does, with the code of its error where it has one. What the original only found
 * out in the middle of a stream is an event of that stream, with status 200.
 */
import type { Context } from 'hono'
import type { Fault, FaultCode } from '../../../shared/faults.ts'
import type { AppEnv } from '../../ports.ts'

const CODES: Partial<Record<FaultCode, readonly [code: string, message?: string]>> = {
  invalid_request: ['FST_ERR_VALIDATION'],
  bad_json: ['FST_ERR_CTP_INVALID_JSON_BODY', "Body is not valid JSON but content-type is set to 'application/json'"],
  too_large: ['FST_ERR_CTP_BODY_TOO_LARGE', 'Request body is too large'],
  media_type: ['FST_ERR_CTP_INVALID_MEDIA_TYPE'],
}
const REASONS: Readonly<Record<number, string>> = {
  400: 'Bad Request',
  402: 'Payment Required',
  403: 'Forbidden',
  404: 'Not Found',
  409: 'Conflict',
  413: 'Payload Too Large',
  415: 'Unsupported Media Type',
  422: 'Unprocessable Entity',
  429: 'Too Many Requests',
  500: 'Internal Server Error',
  502: 'Bad Gateway',
  503: 'Service Unavailable',
  504: 'Gateway Timeout',
}

export function refuse(c: Context<AppEnv>, fault: Fault): Response {
  if (fault.code === 'unauthenticated') {
    // The later versions, which had keys, said it like this.
    const error = { message: 'Invalid authentication credentials', type: 'invalid_request_error', code: 'invalid_api_key' }
    return say(c, 401, { error }, { 'www-authenticate': 'Bearer realm="runyard"' })
  }
  const { status } = fault
  const [code, words = fault.message] = CODES[fault.code] ?? []
  const message = fault.code === 'not_found' ? `Route ${c.req.method}:${c.req.path.slice(0, 128)} not found` : words
  const body = { statusCode: status, ...(code === undefined ? {} : { code }), error: REASONS[status] ?? 'Error', message }
  return say(c, status, body)
}

function say(c: Context<AppEnv>, status: number, body: object, headers: Record<string, string> = {}): Response {
  return c.newResponse(JSON.stringify(body), status as 400, { ...headers, 'content-type': 'application/json; charset=utf-8' })
}
