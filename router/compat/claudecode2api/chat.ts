/** `POST /chat`: one turn of the CLI as it prints it. `DELETE` ends it, and says so when nothing of it is left. */
import { createRoute, z } from '@hono/zod-openapi'
import type { Context } from 'hono'
import { Fault } from '../../../shared/faults.ts'
import { SessionId } from '../../../shared/ids.ts'
import { RunSpec } from '../../../shared/run-spec.ts'
import { isTerminal } from '../../core/run-state.ts'
import { cancelRun } from '../../engine/cancel.ts'
import { streamTo, untilEnded } from '../../engine/stream.ts'
import { requireScope } from '../../guard/authenticate.ts'
import { poolOf } from '../../guard/narrow.ts'
import { newRouter } from '../../guard/router.ts'
import type { AppEnv, RunRef } from '../../ports.ts'
import { listRuns } from '../../store/run-pages.ts'
import { findSession, type SessionRow } from '../../store/sessions.ts'
import { BYPASS_HEADERS, implicitBypass, mustMayBypassIn } from '../kit/bypass.ts'
import { begin, rowOf } from '../kit/runs.ts'
import { framing } from './framing.ts'
import { runOf } from './process-id.ts'
import { parseBody } from './pydantic.ts'
import { Cancelled, ChatRequest, refusals } from './schemas.ts'
import { wishOf, type Wish } from './wish.ts'

/** A runner ends a CLI within seconds; one that is away does it when it is back. */
const CANCEL_MS = 10_000
/** Where a session was begun is said by what was asked of it lately. */
const LATELY = 20
const MAX_METADATA = 1_024
/** Of what was asked for, in the answer that it is not there. */
const MAX_ECHO = 256
const MAX_PATH = 4_096

const tags = ['claudecode2api']
const headers = { 'X-Process-ID': { description: 'The run, for `DELETE`.', schema: { type: 'string' as const } }, ...BYPASS_HEADERS }
const start = createRoute({
  method: 'post',
  path: '/chat',
  tags,
  operationId: 'claudecode2apiChat',
  summary: 'Run the CLI and stream what it prints (claudecode2api)',
  description: 'Every line of the CLI is an event `message`; `done` or `error` is the last one. `X-Process-ID` names the run for `DELETE`. A client that leaves ends the run, unless `on_disconnect` says otherwise.',
  request: { body: { required: true, content: { 'application/json': { schema: ChatRequest } } } },
  responses: {
    200: { description: 'Its events.', headers, content: { 'text/event-stream': { schema: z.string() } } },
    ...refusals(400, 401, 402, 403, 404, 409, 413, 415, 422, 429, 500, 502, 503, 504),
  },
})

const cancel = createRoute({
  method: 'delete',
  path: '/chat/{process_id}',
  tags,
  operationId: 'claudecode2apiCancel',
  summary: 'End a run (claudecode2api)',
  middleware: [requireScope('runs:write')] as const,
  request: { params: z.object({ process_id: z.string() }) },
  responses: {
    200: { description: 'Nothing of it is left.', content: { 'application/json': { schema: Cancelled } } },
    202: { description: 'It will end as soon as its runner hears of it.', content: { 'application/json': { schema: Cancelled } } },
    ...refusals(400, 401, 403, 404, 429, 500, 503),
  },
})

export const chat = newRouter()

// Its body is judged in the dialect's own way, so the document is all that the schema is for.
chat.openAPIRegistry.registerPath(start)
chat.post('/chat', requireScope('runs:write'), async (c) => {
  const wish = wishOf(parseBody(await c.req.text()))
  const ref = await submitted(c, wish)
  // From here on a second attempt could start a second run.
  c.header('x-should-retry', 'false')
  const row = await rowOf(c, ref)
  return streamTo(c, row, 0, framing(row))
})

chat.openapi(cancel, async (c) => {
  const { process_id: process } = c.req.valid('param')
  const run = runOf(process)
  const ref = run === undefined ? undefined : { run, tenant: c.get('principal').tenant }
  if (!ref || !(await cancelRun(c.get('deps'), ref))) throw new Fault('run_not_found', `Process not found: ${process.slice(0, MAX_ECHO)}`)
  return (await endedSoon(c, ref)) ? c.json({ status: 'cancelled' as const, process_id: process }, 200) : c.json({ status: 'cancelling' as const, process_id: process }, 202)
})

async function submitted(c: Context<AppEnv>, wish: Wish): Promise<RunRef> {
  const { narrowing } = c.get('principal')
  if (!RunSpec.shape.cwd.safeParse(wish.cwd).success) throw noSuchDirectory(wish.cwd)
  const session = wish.sessionId === undefined ? undefined : await sessionOf(c, wish.sessionId)
  const pool = session?.pool ?? poolOf(narrowing, undefined)
  mustMayBypassIn(c, wish.cli)
  const bypass = wish.bypassIsImplied ? await implicitBypass(c, { pool, runner: session?.runner }) : undefined
  const { model, ...cli } = wish.cli
  // What nobody has asked for is not held against a token that is good for something else.
  const fits = !wish.modelIsImplied || narrowing.models === undefined || narrowing.models.some((name) => name === model)
  const livesThere = session !== undefined && (await isCwdOf(c, session, wish.cwd))
  try {
    return await begin(c, {
      prompt: wish.prompt,
      cli: { ...cli, ...(model !== undefined && fits ? { model } : {}), ...(bypass === undefined ? {} : { permission_mode: bypass }) },
      sessionId: session?.id,
      fork: wish.fork,
      cwd: livesThere ? undefined : wish.cwd,
      addDirs: wish.addDirs,
      onDisconnectMs: wish.onDisconnectMs,
      metadata: wish.cwd.length <= MAX_METADATA ? { cwd: wish.cwd } : undefined,
      origin: 'claudecode2api',
    })
  } catch (error) {
    throw error instanceof Fault ? inItsWords(error, wish.cwd, session) : error
  }
}

function inItsWords(fault: Fault, cwd: string, session: SessionRow | undefined): Fault {
  // Of one that is there and outside of the workspace nothing else is said: nobody is to ask which those are.
  if (fault.code === 'cwd') return fault.message.startsWith('add_dirs:') ? new Fault('cwd', fault.message.replace('add_dirs:', 'add_dir:')) : noSuchDirectory(cwd)
  if (fault.code === 'session_cwd') return new Fault('session_cwd', `cwd: session ${session?.id} lives in ${session?.cwd}`)
  return fault
}

const noSuchDirectory = (cwd: string) => new Fault('cwd', `Directory does not exist: ${cwd.slice(0, MAX_PATH)}`)

async function sessionOf(c: Context<AppEnv>, named: string): Promise<SessionRow> {
  const id = SessionId.safeParse(named.toLowerCase()).data
  const known = id === undefined ? undefined : await findSession(c.get('deps').store.db, c.get('principal').tenant, id)
  if (!known) throw new Fault('session_not_found', `Session not found: ${named.slice(0, MAX_ECHO)}`)
  return known
}

/**
 * A session stays where it was begun, and a client names that place each time: by its real path, or as it did before, which
 * may have been a relative one or have led there through a link.
 */
async function isCwdOf(c: Context<AppEnv>, session: SessionRow, cwd: string): Promise<boolean> {
  if (session.cwd === null) return false
  if (cwd.replace(/(?<=.)\/+$/, '') === session.cwd) return true
  const { store } = c.get('deps')
  const before = await listRuns(store.db, session.tenant, { status: undefined, session: session.id, before: undefined, limit: LATELY })
  return before.some(({ metadata }) => metadata?.['cwd'] === cwd)
}

/** False: it may be over any moment, and will be. */
async function endedSoon(c: Context<AppEnv>, ref: RunRef): Promise<boolean> {
  const deps = c.get('deps')
  const late = AbortSignal.timeout(CANCEL_MS)
  await untilEnded(deps, ref, AbortSignal.any([c.req.raw.signal, late])).catch((error: unknown) => {
    if (!late.aborted) throw error
  })
  return isTerminal((await rowOf(c, ref)).state)
}

