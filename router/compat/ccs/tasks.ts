/** `/api/tasks`: runs that nobody waits for, as they stand. */
import { createRoute, z } from '@hono/zod-openapi'
import { Fault } from '../../../shared/faults.ts'
import { uuidOfRun } from '../../../shared/ids.ts'
import { isTerminal } from '../../core/run-state.ts'
import { cancelRun } from '../../engine/cancel.ts'
import { reprioritise } from '../../engine/priority.ts'
import { untilEnded } from '../../engine/stream.ts'
import { requireScope } from '../../guard/authenticate.ts'
import { newRouter } from '../../guard/router.ts'
import { joi } from './joi.ts'
import { countTasks, listTasks, promptsOf } from './queries.ts'
import { done, failed, json, refusals, startRefusals, Task, TaskRequest, TASK_STATES } from './schemas.ts'
import { findTask, mustFindTask, startTask, statesOfTask, taskState, taskView } from './task.ts'

/** A cancelled task is answered when nothing of it is left; the CLI is killed within about six seconds. */
const CANCEL_MS = 15_000

const params = z.object({ id: z.string().max(64) })
const write = { tags: ['ccs'], middleware: [requireScope('runs:write')] }
const read = { tags: ['ccs'], middleware: [requireScope('runs:read')] }
const one = z.object({ success: z.literal(true), task: Task }).openapi('CcsOneTask')

const create = createRoute({
  ...write,
  method: 'post',
  path: '/api/tasks/async',
  summary: 'Make a task of a prompt',
  request: { body: { required: true, content: json(TaskRequest) } },
  responses: { 201: { description: 'The task.', content: json(one) }, ...startRefusals, ...failed },
})
const list = createRoute({
  ...read,
  method: 'get',
  path: '/api/tasks',
  summary: 'Tasks, by priority and age',
  request: { query: z.strictObject({ status: z.enum(TASK_STATES).optional(), limit: z.coerce.number().pipe(z.int().min(1).max(100)).default(50) }) },
  responses: {
    200: { description: 'The tasks.', content: json(z.object({ success: z.literal(true), tasks: z.array(Task), count: z.int() }).openapi('CcsTasks')) },
    ...refusals,
  },
})
const number = z.int()
const Queue = z.object({
  running: z.boolean(),
  concurrency: number,
  active_tasks: number,
  total: number,
  pending: number,
  processing: number,
  completed: number,
  failed: number,
  cancelled: number,
  total_cost_usd: z.number(),
})
const queue = createRoute({
  ...read,
  method: 'get',
  path: '/api/tasks/queue/status',
  summary: 'How many tasks there are in each state',
  description: '`concurrency` is the number of slots of the machines that are connected.',
  responses: { 200: { description: 'The queue.', content: json(z.object({ success: z.literal(true), queue: Queue }).openapi('CcsQueue')) }, ...refusals },
})
const get = createRoute({
  ...read,
  method: 'get',
  path: '/api/tasks/{id}',
  summary: 'One task',
  request: { params },
  responses: { 200: { description: 'The task.', content: json(one) }, ...refusals },
})
const Moved = z.object({ success: z.literal(true), message: z.string(), task_id: z.string(), old_priority: number, new_priority: number }).openapi('CcsMovedTask')
const move = createRoute({
  ...write,
  method: 'patch',
  path: '/api/tasks/{id}/priority',
  summary: 'Give a task that waits another priority',
  request: { params, body: { required: true, content: json(z.object({ priority: z.unknown().optional().openapi({ type: 'integer', minimum: 1, maximum: 10 }) }).openapi('CcsPriority')) } },
  responses: { 200: { description: 'It was changed.', content: json(Moved) }, ...startRefusals },
})
const cancel = createRoute({
  ...write,
  method: 'delete',
  path: '/api/tasks/{id}',
  summary: 'End a task',
  description: 'Answered when nothing of it is running any more. A task that is not there is a 400, as it was.',
  request: { params },
  responses: { 200: { description: 'It was ended.', content: json(done) }, ...refusals },
})

export const tasks = newRouter(joi)

tasks.openapi(create, async (c) => {
  const { metadata = {}, ...body } = c.req.valid('json')
  const { webhook_url, session_id, system_prompt, max_budget_usd, allowed_tools, disallowed_tools, permission_mode, ...others } = metadata
  const { agent, mcp_config, ...notes } = others
  const turn = { system_prompt, max_budget_usd, allowed_tools, disallowed_tools, permission_mode }
  const set = { webhook_url, session_id, agent, mcp_config, ...turn }
  const row = await startTask(c, { ...body, ...set }, notes)
  return c.json({ success: true as const, task: await taskView(c, row, body.prompt) }, 201)
})

tasks.openapi(list, async (c) => {
  const { status, limit } = c.req.valid('query')
  const { db } = c.get('deps').store
  const rows = await listTasks(db, c.get('principal').tenant, status && statesOfTask(status), limit)
  const prompts = await promptsOf(db, rows)
  const views = await Promise.all(rows.map((row) => taskView(c, row, prompts.get(row.id))))
  return c.json({ success: true as const, tasks: views, count: views.length }, 200)
})

tasks.openapi(queue, async (c) => {
  const { store, hub } = c.get('deps')
  const { tenant } = c.get('principal')
  const [counts, online] = await Promise.all([countTasks(store, tenant), hub.online(tenant)])
  const of = Object.fromEntries(TASK_STATES.map((state) => [state, 0])) as Record<(typeof TASK_STATES)[number], number>
  for (const { state, count } of counts) of[taskState(state)] += count
  const total = counts.reduce((sum, { count }) => sum + count, 0)
  const concurrency = online.reduce((sum, { slots }) => sum + slots, 0)
  const total_cost_usd = counts.reduce((sum, { usd }) => sum + usd, 0)
  return c.json({ success: true as const, queue: { running: true, concurrency, active_tasks: of.processing, total, ...of, total_cost_usd } }, 200)
})

tasks.openapi(get, async (c) => {
  const row = await mustFindTask(c, c.req.valid('param').id)
  const prompts = await promptsOf(c.get('deps').store.db, [row])
  return c.json({ success: true as const, task: await taskView(c, row, prompts.get(row.id)) }, 200)
})

tasks.openapi(move, async (c) => {
  const { priority } = c.req.valid('json')
  if (typeof priority !== 'number' || !Number.isInteger(priority) || priority < 1 || priority > 10) {
    throw new Fault('invalid_request', 'Priority must be a number between 1 and 10', { extra: { field: 'priority' } })
  }
  const row = await mustFindTask(c, c.req.valid('param').id)
  const moved = await reprioritise(c.get('deps'), { run: row.id, tenant: row.tenant }, priority)
  if (typeof moved === 'object') {
    const task = { task_id: uuidOfRun(row.id), old_priority: moved.old, new_priority: priority }
    return c.json({ success: true as const, message: 'Priority updated', ...task }, 200)
  }
  const now = await mustFindTask(c, c.req.valid('param').id)
  throw new Fault('invalid_request', `Cannot modify priority for task with status: ${taskState(now.state)}`)
})

tasks.openapi(cancel, async (c) => {
  const deps = c.get('deps')
  const row = await findTask(c, c.req.valid('param').id)
  if (!row) throw new Fault('invalid_request', 'Task not found')
  const ref = { run: row.id, tenant: row.tenant }
  const asked = !isTerminal(row.state) && (await cancelRun(deps, ref))
  if (asked) await untilEnded(deps, ref, AbortSignal.timeout(CANCEL_MS))
  const after = (await deps.records.find(ref)) ?? row
  if (!asked) throw new Fault('invalid_request', `Cannot cancel task with status: ${taskState(after.state)}`)
  if (after.state !== 'cancelled') throw new Fault('invalid_request', 'Failed to cancel task')
  return c.json({ success: true as const }, 200)
})
