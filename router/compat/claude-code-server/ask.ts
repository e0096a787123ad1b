/** `POST /ask`: one turn of the CLI, as its result or as its lines. */
import { createRoute } from '@hono/zod-openapi'
import type { Context } from 'hono'
import { Fault } from '../../../shared/faults.ts'
import { streamTo } from '../../engine/stream.ts'
import { resultLine } from '../../engine/result.ts'
import { requireScope } from '../../guard/authenticate.ts'
import { poolOf } from '../../guard/narrow.ts'
import { newRouter } from '../../guard/router.ts'
import type { AppEnv, RunRef } from '../../ports.ts'
import { BYPASS_HEADERS, implicitBypass } from '../kit/bypass.ts'
import { begin, ended, rowOf } from '../kit/runs.ts'
import { framing } from './frames.ts'
import { placeOf } from './place.ts'
import { refusals } from './refusals.ts'
import { Ask, CliResult } from './schemas.ts'
import { failed, sayInvalid } from './words.ts'

const route = createRoute({
  method: 'post',
  path: '/ask',
  tags: ['claude-code-server'],
  operationId: 'claudeCodeServerAsk',
  summary: 'Ask the CLI (claude-code-server)',
  description: 'The answer is the result as the CLI printed it or, with `stream`, every line of it as server-sent events.',
  middleware: [requireScope('runs:write')] as const,
  request: { body: { required: true, content: { 'application/json': { schema: Ask } } } },
  responses: {
    200: {
      description: "The CLI's own result object, or its lines.",
      headers: BYPASS_HEADERS,
      content: {
        'application/json': { schema: CliResult },
        'text/event-stream': { schema: { type: 'string' } },
      },
    },
    ...refusals(400, 401, 402, 403, 404, 409, 413, 415, 429, 500, 502, 503, 504),
  },
})

export const ask = newRouter(sayInvalid)

ask.openapi(route, async (c) => {
  const deps = c.get('deps')
  const body = c.req.valid('json')
  const ref = await submitted(c, body)
  c.header('x-run-id', ref.run)
  // From here on a second attempt could start a second run.
  c.header('x-should-retry', 'false')
  if (body.stream === true) return streamTo(c, await rowOf(c, ref), 0, framing(deps.records))
  const row = await ended(c, ref)
  const line = await resultLine(deps.records, row)
  if (line === undefined || !line.startsWith('{')) return failed(c, `${row.errorCode ?? 'cli_error'}: ${row.errorMessage ?? 'the CLI ended without a result'}`)
  return c.body(line, 200, { 'content-type': 'application/json; charset=utf-8' })
})

async function submitted(c: Context<AppEnv>, body: Ask): Promise<RunRef> {
  const { catalog } = c.get('deps')
  const { timeout_s: timeoutS } = (await catalog.compat()).claude_code_server
  const pool = poolOf(c.get('principal').narrowing, undefined)
  const { runner, ...place } = await placeOf(c, body)
  const mode = body.permissionMode ?? (await implicitBypass(c, { pool, runner }))
  const { agent, maxTurns, systemPrompt, model, allowedTools, jsonSchema } = body
  const cli = {
    ...(mode === undefined ? {} : { permission_mode: mode }),
    ...(model === undefined ? {} : { model }),
    ...(agent === undefined ? {} : { agent }),
    ...(maxTurns === undefined ? {} : { max_turns: maxTurns }),
    ...(systemPrompt === undefined ? {} : { system_prompt: systemPrompt }),
    ...(allowedTools === undefined ? {} : { allowed_tools: allowedTools }),
    ...(jsonSchema === undefined ? {} : { json_schema: jsonSchema }),
  }
  try {
    // Whoever has left wants nothing of it any more: here nobody can come back to a run.
    const wish = { prompt: body.prompt, cli, sessionId: body.resume, ...place, onDisconnectMs: 0, timeoutS }
    return await begin(c, { ...wish, origin: 'claude-code-server' })
  } catch (error) {
    if (!(error instanceof Fault) || error.code !== 'agent_not_found') throw error
    throw new Fault('agent_not_found', `Agent '${agent ?? ''}' not found`)
  }
}
