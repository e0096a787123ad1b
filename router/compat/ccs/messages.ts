/** `/api/messages`: one prompt or a few, answered when they are done. */
import { createRoute } from '@hono/zod-openapi'
import type { Context } from 'hono'
import { Fault } from '../../../shared/faults.ts'
import { requireScope } from '../../guard/authenticate.ts'
import { newRouter } from '../../guard/router.ts'
import type { AppEnv } from '../../ports.ts'
import { joi } from './joi.ts'
import { eachOf } from './lanes.ts'
import { perform, type Outcome } from './outcome.ts'
import { bodyOf } from './refuse.ts'
import { Accepted, Answer, Batch, BatchRequest, failed, json, Message, Refusal, startRefusals } from './schemas.ts'
import { acceptedTask, startTask } from './task.ts'

/** Prompts of one batch that are under way at once; how many machines are busy with them the line decides. */
const AT_ONCE = 3
/** The words of the original, which has other routes for it. */
export const NO_STREAM = 'Streaming is not yet implemented'
export const notYet = { 501: { description: 'Streams are on `/api/sessions/{id}/continue/stream`.', content: json(Refusal) } }

const shared = { method: 'post' as const, tags: ['ccs'], middleware: [requireScope('runs:write')] }

const send = createRoute({
  ...shared,
  path: '/api/messages',
  summary: 'Ask, and wait for the answer',
  description: 'With `async` it is 202 and a task. `project_path` is for the first run of a session, which stays where it began.',
  request: { body: { required: true, content: json(Message) } },
  responses: {
    200: { description: 'The answer.', content: json(Answer) },
    202: { description: 'A task was made of it.', content: json(Accepted) },
    ...startRefusals,
    ...failed,
    ...notYet,
  },
})
const sendAsync = createRoute({
  ...shared,
  path: '/api/async/messages',
  summary: 'Ask, and look for the answer later',
  request: { body: { required: true, content: json(Message) } },
  responses: { 202: { description: 'A task was made of it.', content: json(Accepted) }, ...startRefusals, ...failed },
})
const batchOf = (path: string) =>
  createRoute({
    ...shared,
    path,
    summary: 'Ask up to ten things, and wait for all answers',
    description: 'Each through the line like any other run; the results are in the order of the prompts.',
    request: { body: { required: true, content: json(BatchRequest) } },
    responses: { 200: { description: 'What became of each.', content: json(Batch) }, ...startRefusals, ...failed },
  })

export const messages = newRouter(joi)

messages.openapi(send, async (c) => {
  const body = c.req.valid('json')
  if (body.stream) return c.json({ success: false as const, error: NO_STREAM }, 501)
  if (body.async) return c.json(acceptedTask(await startTask(c, body), body.webhook_url), 202)
  const outcome = await perform(c, body, { onBegun: ({ run }) => c.header('x-run-id', run) })
  return outcome.ok ? c.json(outcome.body, 200) : c.json(outcome.body, 500)
})

messages.openapi(sendAsync, async (c) => {
  const body = c.req.valid('json')
  return c.json(acceptedTask(await startTask(c, body), body.webhook_url), 202)
})

for (const path of ['/api/messages/batches', '/api/claude/batch']) {
  messages.openapi(batchOf(path), async (c) => {
    const { prompts, ...rest } = c.req.valid('json')
    const { ccs } = await c.get('deps').catalog.compat()
    const outcomes = await eachOf(prompts, AT_ONCE, (prompt) => tried(c, () => perform(c, { ...rest, prompt }, { queueTimeoutS: ccs.timeout_s })))
    const results = outcomes.map(({ body }) => body)
    const sum = (of: 'cost_usd' | 'duration_ms') => results.reduce((total, body) => total + (body[of] ?? 0), 0)
    const successful = outcomes.filter(({ ok }) => ok).length
    const summary = { total: results.length, successful, failed: results.length - successful, total_cost_usd: sum('cost_usd'), total_duration_ms: sum('duration_ms') }
    return c.json({ success: true as const, results, summary }, 200)
  })
}

/** One that is refused fails alone; whoever may not be here any more hears so at once. */
async function tried(c: Context<AppEnv>, work: () => Promise<Outcome>): Promise<Outcome> {
  try {
    return await work()
  } catch (error) {
    if (!(error instanceof Fault) || ['unauthenticated', 'draining', 'internal', 'storage'].includes(error.code)) throw error
    return { ok: false, body: { ...bodyOf(c, error), success: false, error: String(bodyOf(c, error)['error']), duration_ms: 0 } }
  }
}
