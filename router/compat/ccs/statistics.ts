/**
 * `/api/statistics`: what the runs of the tenant used, in whatever dialect they were asked for. A request succeeded or it
 * failed there: one that was cancelled is among the failed ones, so that the two add up.
 */
import { createRoute, z } from '@hono/zod-openapi'
import type { Context } from 'hono'
import { Fault } from '../../../shared/faults.ts'
import { usageBy, usageOverview, type Overview, type UsageParts, type UsageRange } from '../../engine/usage.ts'
import { requireScope } from '../../guard/authenticate.ts'
import { newRouter } from '../../guard/router.ts'
import type { AppEnv } from '../../ports.ts'
import { joi } from './joi.ts'
import { json, refusals } from './schemas.ts'

const DAY_MS = 86_400_000
/** Of a year, or of all models that anybody used. */
const MOST = 366

const int = z.int()
const numbers = {
  requests: z.object({ total: int, successful: int, failed: int }),
  tokens: z.object({ total_input: int, total_output: int }),
  costs: z.object({ total_usd: z.number() }),
}
const Summary = z.object({ ...numbers, models: z.record(z.string(), z.object({ count: int, cost_usd: z.number() })) }).openapi('CcsSummary')
const Day = z.object({ date: z.string(), ...numbers }).openapi('CcsDay')
const Model = z.object({ model: z.string(), count: int, cost_usd: z.number() }).openapi('CcsModel')
const success = z.literal(true)

const limitOf = (usual: number) => z.strictObject({ limit: z.coerce.number().pipe(int.min(1).max(MOST)).default(usual) })
const shared = { method: 'get' as const, tags: ['ccs'], middleware: [requireScope('stats:read')] }
const answers = <S extends z.ZodType>(schema: S) => ({ 200: { description: 'The numbers.', content: json(schema) }, ...refusals })

const all = createRoute({
  ...shared,
  path: '/api/statistics',
  summary: 'The whole, the last seven days and the five dearest models',
  responses: answers(z.object({ success, statistics: z.object({ summary: Summary, recent_daily: z.array(Day), top_models: z.array(Model) }) }).openapi('CcsStatistics')),
})
const summary = createRoute({
  ...shared,
  path: '/api/statistics/summary',
  summary: 'What was used in all',
  responses: answers(z.object({ success, statistics: Summary }).openapi('CcsStatisticsSummary')),
})
const daily = createRoute({
  ...shared,
  path: '/api/statistics/daily',
  summary: 'What was used by day of UTC, newest first',
  request: { query: limitOf(30) },
  responses: answers(z.object({ success, daily: z.array(Day), count: int }).openapi('CcsStatisticsDaily')),
})
const models = createRoute({
  ...shared,
  path: '/api/statistics/models',
  summary: 'What was used by model, the dearest first',
  request: { query: limitOf(10) },
  responses: answers(z.object({ success, models: z.array(Model), count: int }).openapi('CcsStatisticsModels')),
})
const range = createRoute({
  ...shared,
  path: '/api/statistics/range',
  summary: 'What was used by day, from one date to another',
  description: 'Dates (the last one belongs to the range) or times.',
  request: { query: z.strictObject({ start: z.string().max(64), end: z.string().max(64) }) },
  responses: answers(z.object({ success, statistics: z.array(Day), count: int }).openapi('CcsStatisticsRange')),
})

export const statistics = newRouter(joi)

statistics.openapi(all, async (c) => {
  const overview = await overviewOf(c)
  const recent_daily = overview.days.map(dayView)
  const top_models = overview.models.slice(0, 5).map(modelView)
  return c.json({ success: true as const, statistics: { summary: summaryView(overview), recent_daily, top_models } }, 200)
})
statistics.openapi(summary, async (c) => c.json({ success: true as const, statistics: summaryView(await overviewOf(c)) }, 200))
statistics.openapi(daily, async (c) => {
  const days = await daysOf(c, c.req.valid('query').limit)
  return c.json({ success: true as const, daily: days, count: days.length }, 200)
})
statistics.openapi(models, async (c) => {
  const rows = await usageBy(c.get('deps'), c.get('principal').tenant, 'model', { limit: c.req.valid('query').limit })
  return c.json({ success: true as const, models: rows.map(modelView), count: rows.length }, 200)
})
statistics.openapi(
  range,
  async (c) => {
    const { start, end } = c.req.valid('query')
    const until = timeOf('end', end)
    const days = await daysOf(c, MOST, { from: timeOf('start', start), to: isDate(end) ? until + DAY_MS : until })
    return c.json({ success: true as const, statistics: days, count: days.length }, 200)
  },
  (result) => {
    if (result.success) return
    const missing = result.error.issues.some(({ code }) => code === 'invalid_type')
    throw missing ? new Fault('invalid_request', 'Missing required parameters: start and end') : joi(result.error)
  },
)

const overviewOf = (c: Context<AppEnv>): Promise<Overview> => usageOverview(c.get('deps'), c.get('principal').tenant, { days: 7, models: MOST })

async function daysOf(c: Context<AppEnv>, limit: number, within: UsageRange = {}): Promise<z.infer<typeof Day>[]> {
  const rows = await usageBy(c.get('deps'), c.get('principal').tenant, 'day', { ...within, limit })
  return rows.map(dayView)
}

function summaryView({ whole, models: list }: Overview): z.infer<typeof Summary> {
  return { ...view(whole), models: Object.fromEntries(list.map(modelView).map(({ model, ...rest }) => [model, rest])) }
}

function dayView({ key, ...used }: UsageParts): z.infer<typeof Day> {
  return { date: key ?? '', ...view(used) }
}

function modelView({ key, runs, cost_usd }: UsageParts): z.infer<typeof Model> {
  return { model: key ?? 'unknown', count: runs, cost_usd }
}

function view(used: Omit<UsageParts, 'key'>) {
  return {
    requests: { total: used.runs, successful: used.succeeded, failed: used.failed + used.cancelled },
    tokens: { total_input: used.input_tokens, total_output: used.output_tokens },
    costs: { total_usd: used.cost_usd },
  }
}

const isDate = (text: string) => /^\d{4}-\d{2}-\d{2}$/.test(text)

function timeOf(field: string, text: string): number {
  const ms = /^\d{4}-\d{2}-\d{2}/.test(text) ? Date.parse(text) : Number.NaN
  if (Number.isNaN(ms)) throw new Fault('invalid_request', `"${field}" must be a valid date`, { extra: { field } })
  return ms
}
