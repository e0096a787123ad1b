/** `runyard usage`: what the runs of a tenant used, all together or by something. */
import { InvalidArgumentError, Option, type Command } from 'commander'
import { z } from 'zod'
import * as o from '../options.ts'
import { bold, out } from '../output.ts'
import { facts, table, usd, when } from '../table.ts'
import { adminFlags, openAdmin, type AdminFlags } from './call.ts'

const Used = z.looseObject({
  runs: z.number(),
  succeeded: z.number(),
  failed: z.number(),
  cancelled: z.number(),
  sessions: z.number(),
  input_tokens: z.number(),
  output_tokens: z.number(),
  cache_creation_input_tokens: z.number(),
  cache_read_input_tokens: z.number(),
  cost_usd: z.number(),
  estimated: z.number(),
  duration_ms: z.number(),
  last_ended_at: z.string().nullable(),
})
const Usage = z.looseObject({ total: Used, data: z.array(Used.extend({ key: z.string().nullable() })) })
type Used = z.infer<typeof Used>

const BY = ['day', 'model', 'provider', 'session', 'project', 'tenant', 'origin']
const ORDERS = ['key', 'runs', 'cost_usd', 'sessions', 'last_ended_at']

type UsageFlags = AdminFlags & { readonly by?: string; readonly from?: string; readonly to?: string; readonly order?: string; readonly limit: number; readonly session?: string }

export function usageCommand(program: Command): void {
  adminFlags(program.command('usage').description('what the runs that have ended used'))
    .addOption(new Option('--by <what>', 'a row for each').choices(BY))
    .addOption(new Option('--from <day|time>', 'runs that ended then or later, such as 2026-11-01').argParser(moment))
    .addOption(new Option('--to <day|time>', 'runs that ended before; a day counts as a whole').argParser(moment))
    .addOption(new Option('--session <id>', 'of one session only'))
    .addOption(new Option('--order <what>', 'highest first').choices(ORDERS))
    .addOption(new Option('--limit <n>', 'this many rows at most').default(100).argParser(o.integer(1, 1_000)))
    .action(async ({ by, from, to, order, limit, session, tenant, ...flags }: UsageFlags) => {
      const admin = await openAdmin(flags)
      const usage = Usage.parse(await admin.send('GET', 'usage', undefined, { tenant, group_by: by, from, to, order, limit, session_id: session }))
      admin.show(usage, () => (by === undefined ? total(usage.total) : rows(by, usage)))
    })
}

function total(used: Used): void {
  facts([
    ['runs', used.runs],
    ['succeeded', used.succeeded],
    ['failed', used.failed],
    ['cancelled', used.cancelled],
    ['sessions', used.sessions],
    ['input tokens', used.input_tokens],
    ['output tokens', used.output_tokens],
    ['written to caches', used.cache_creation_input_tokens],
    ['read from caches', used.cache_read_input_tokens],
    ['cost', cost(used)],
    ['time', `${Math.round(used.duration_ms / 1_000)} s`],
    ['last run ended', when(used.last_ended_at)],
  ])
}

function rows(by: string, { total: all, data }: z.infer<typeof Usage>): void {
  const line = ({ runs, failed, input_tokens, output_tokens, ...used }: Used) => [runs, failed, input_tokens, output_tokens, cost(used)]
  table([by.toUpperCase(), 'RUNS', 'FAILED', 'INPUT', 'OUTPUT', 'COST'], data.map((row) => [row.key, ...line(row)]), 'no run has ended in that time')
  if (data.length > 0) out(bold(`all together: ${all.runs} runs, ${cost(all)}`))
}

const cost = ({ cost_usd, estimated }: Pick<Used, 'cost_usd' | 'estimated'>) => usd(cost_usd) + (estimated > 0 ? ` (of ${estimated} runs estimated)` : '')

/** What the router reads is its business; this is only for what is no time at all. */
function moment(text: string): string {
  if (Number.isNaN(Date.parse(text)) || !/^\d{4}-\d\d-\d\d/.test(text)) throw new InvalidArgumentError('must be a day such as 2026-11-21, or a time such as 2026-11-21T08:00:00Z')
  return text
}
