/**
 * How claude-code-server says "no": one envelope, eight codes, and Ajv's sentences for a body that does not fit.
 *
 * What the original hides behind `Internal server error` is said where it is not ours to hide: that no runner is there, or
 * what the CLI died of. What went wrong inside of the router stays there.
 */
import type { Context } from 'hono'
import type { ZodError } from 'zod'
import { Fault, type FaultCode } from '../../../shared/faults.ts'
import type { AppEnv } from '../../ports.ts'
import { BYPASS_HEADER } from '../kit/bypass.ts'

type Code = 'UNAUTHORIZED' | 'INVALID_CWD' | 'AGENT_NOT_FOUND' | 'SERVER_BUSY' | 'NOT_FOUND' | 'REQUEST_ERROR' | 'INTERNAL_ERROR'

export const OUTSIDE = 'cwd must be within the workspace directory'
const BUSY = 'Server is busy, try again later'

export function refuse(c: Context<AppEnv>, fault: Fault): Response {
  // It tells of a run that goes on, and here is none.
  c.header(BYPASS_HEADER, undefined)
  if (fault.code === 'unauthenticated') c.header('www-authenticate', 'Bearer realm="runyard"')
  const [code, message] = said(fault)
  return envelope(c, fault.status, code, message)
}

/** For what is no fault of ours: a run that ended without an answer. */
export function failed(c: Context<AppEnv>, message: string): Response {
  return envelope(c, 500, 'INTERNAL_ERROR', message)
}

function envelope(c: Context<AppEnv>, status: number, code: Code, message: string): Response {
  c.header('cache-control', 'no-store')
  c.header('content-type', 'application/json; charset=utf-8')
  return c.newResponse(JSON.stringify({ error: { code, message, requestId: c.get('requestId') } }), status as 400)
}

/** Codes that have a word of their own, and what it says where that is not for the fault to say. */
const WORDS: Partial<Record<FaultCode, readonly [Code, string?]>> = {
  unauthenticated: ['UNAUTHORIZED', 'Invalid or missing API key'],
  cwd: ['INVALID_CWD', OUTSIDE],
  session_cwd: ['INVALID_CWD'],
  agent_not_found: ['AGENT_NOT_FOUND'],
  busy: ['SERVER_BUSY', BUSY],
  concurrency: ['SERVER_BUSY', BUSY],
  // The same to a client, which tries again; the status says that nobody is there at all.
  no_runner: ['SERVER_BUSY'],
  draining: ['SERVER_BUSY'],
  internal: ['INTERNAL_ERROR', 'Internal server error'],
}

function said({ code, status, message }: Fault): [Code, string] {
  const [word = status === 404 ? 'NOT_FOUND' : status < 500 ? 'REQUEST_ERROR' : 'INTERNAL_ERROR', words = message] = WORDS[code] ?? []
  return [word, words]
}

const PARTS: Record<string, string> = { json: 'body', query: 'querystring', param: 'params', header: 'headers' }

/** As Fastify puts what its Ajv found first: `body/maxTurns must be <= 50`. */
export function sayInvalid(error: ZodError, part: string): Fault {
  const [issue] = error.issues
  const where = PARTS[part] ?? part
  if (!issue) return new Fault('invalid_request', `${where} is not valid`)
  const path = issue.path.map((key) => `/${String(key)}`).join('')
  // What is missing is said of the object that it is missing from.
  const message = isMissing(issue)
    ? `${where}${path.slice(0, path.lastIndexOf('/'))} must have required property '${String(issue.path.at(-1))}'`
    : `${where}${path} ${sentence(issue)}`
  return new Fault('invalid_request', message.slice(0, 512))
}

type Issue = ZodError['issues'][number]

const isMissing = (issue: Issue) => issue.code === 'invalid_type' && issue.path.length > 0 && issue.message.endsWith('received undefined')

function sentence(issue: Issue): string {
  if (issue.code === 'invalid_type') return `must be ${TYPES[issue.expected] ?? issue.expected}`
  if (issue.code === 'too_small' || issue.code === 'too_big') {
    const [bound, fewer, sign] = issue.code === 'too_small' ? [issue.minimum, 'fewer', '>='] : [issue.maximum, 'more', '<=']
    const counted = COUNTED[issue.origin]
    return counted === undefined ? `must be ${sign} ${bound}` : `must NOT have ${fewer} than ${bound} ${counted}`
  }
  if (issue.code === 'invalid_value') return 'must be equal to one of the allowed values'
  if (issue.code === 'invalid_union') return 'must match a schema in anyOf'
  if (issue.code === 'invalid_format') {
    return issue.pattern === undefined ? `must match format "${issue.format}"` : `must match pattern "${issue.pattern.replace(/^\/|\/[a-z]*$/g, '')}"`
  }
  return issue.message
}

const TYPES: Partial<Record<string, string>> = { int: 'integer', record: 'object' }
const COUNTED: Partial<Record<string, string>> = { string: 'characters', array: 'items' }
