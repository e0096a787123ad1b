/**
 * `POST /api/claude`: one turn of the CLI as the lines that it prints. A session is any of the tenant's, by every id that it
 * was ever seen under.
 */
import { createRoute, z } from '@hono/zod-openapi'
import type { Context } from 'hono'
import { Fault, type FaultCode } from '../../../shared/faults.ts'
import { SessionId } from '../../../shared/ids.ts'
import { mustMayAllow } from '../../guard/anonymous.ts'
import { requireScopeOrNobody } from '../../guard/authenticate.ts'
import { newRouter } from '../../guard/router.ts'
import type { AppEnv, RunRow } from '../../ports.ts'
import { mustMayBypass } from '../kit/bypass.ts'
import { streamTo } from '../../engine/stream.ts'
import { begin, rowOf } from '../kit/runs.ts'
import { readBody, type Asked } from './body.ts'
import { errorStream, framing, HEADERS } from './framing.ts'
import { ClaudeRequest, refusals } from './schemas.ts'

/** What the original had said 200 to before it found out: events of the stream, as its clients read nothing else. */
const IN_STREAM: Partial<Record<FaultCode, string>> = { session_not_found: 'Session not found' }
const SPAWN: ReadonlySet<FaultCode> = new Set(['cli', 'cwd', 'agent_not_found'])

const route = createRoute({
  method: 'post',
  path: '/api/claude',
  tags: ['claude-code-api'],
  operationId: 'claudeCodeApiClaude',
  summary: 'Run the CLI and stream what it prints (claude-code-api)',
  description:
    'Every line of the CLI is an unnamed event, and the stream closes at its end. An unknown session, a run that took too long and a CLI that could not be started are events `{"type":"error","error":…}` of it. A client that leaves ends the run, unless `on-disconnect` says otherwise. Where an operator lets nobody in particular in, it takes no token.',
  request: { body: { required: true, content: { 'application/json': { schema: ClaudeRequest } } } },
  responses: {
    200: { description: 'Its events.', content: { 'text/event-stream': { schema: z.string() } } },
    ...refusals(400, 401, 402, 403, 409, 413, 415, 429, 500, 502, 503, 504),
  },
})

export const claude = newRouter()

// Its body is judged in the dialect's own way, so the document is all that the schema is for.
claude.openAPIRegistry.registerPath(route)
claude.post('/api/claude', requireScopeOrNobody('runs:write'), async (c) => {
  const asked = readBody(parse(await c.req.text()))
  if (asked.cli.permission_mode === 'bypassPermissions') mustMayBypass(c, 'dangerously-skip-permissions')
  await mustMayAllow(c.get('deps'), c.get('principal'), 'allowedTools', asked.cli.allowed_tools)
  const begun = await attempt(c, asked)
  if (typeof begun === 'string') return c.newResponse(errorStream(begun), 200, HEADERS)
  // From here on a second attempt could start a second run.
  c.header('x-should-retry', 'false')
  return streamTo(c, begun, 0, framing)
})

/** The row of the run, or what the stream says in its place. */
async function attempt(c: Context<AppEnv>, { prompt, session, workspace, cli, onDisconnectMs }: Asked): Promise<RunRow | string> {
  const sessionId = session === undefined ? undefined : SessionId.safeParse(session.toLowerCase()).data
  if (session !== undefined && sessionId === undefined) return 'Session not found'
  const { timeout_s: timeoutS } = (await c.get('deps').catalog.compat()).claude_code_api
  try {
    // A session stays where it was begun.
    const place = sessionId === undefined ? { workspace } : {}
    const ref = await begin(c, { prompt, cli, sessionId, ...place, timeoutS, onDisconnectMs, origin: 'claude-code-api' })
    return await rowOf(c, ref)
  } catch (error) {
    if (!(error instanceof Fault)) throw error
    const said = IN_STREAM[error.code] ?? (SPAWN.has(error.code) ? error.message : undefined)
    if (said === undefined) throw error
    return said
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw new Fault('bad_json')
  }
}
