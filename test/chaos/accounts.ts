/**
 * The statistics at the end of a chaos run, held against the runs in their list and the results that subscribers saw: what
 * was used is counted once, whatever broke in between.
 */
import type { Story, Violation } from './oracle.ts'
import type { Stage } from './stage.ts'

const TOKENS = ['input_tokens', 'output_tokens', 'cache_creation_input_tokens', 'cache_read_input_tokens'] as const
type Tokens = Record<(typeof TOKENS)[number], number>
export type Run = {
  readonly id: string
  readonly status: string
  readonly session_id: string
  readonly runner_id: string | null
  readonly cost_usd: number | null
  readonly cost_estimated?: boolean
  readonly usage: Tokens | null
  readonly duration_ms: number | null
}
const COUNTS = ['runs', 'succeeded', 'failed', 'cancelled', ...TOKENS, 'estimated', 'duration_ms'] as const
export type Used = Record<(typeof COUNTS)[number] | 'sessions' | 'cost_usd', number>

/** `by`: rows of the same total, by what they are grouped by. `unmetered`: the runners that take a CLI at its word. */
export type Accounts = { readonly total: Used; readonly by: Readonly<Record<string, readonly Used[]>>; readonly runs: readonly Run[]; readonly unmetered: ReadonlySet<string> }

const GROUPS = ['day', 'model', 'provider', 'project', 'session'] as const
const MOST_GROUPS = 1_000

export async function accountsOf(stage: Pick<Stage, 'ask' | 'unmetered'>): Promise<Accounts> {
  const ask = async <T>(path: string) => JSON.parse((await stage.ask(path)).body) as T
  const by: Record<string, readonly Used[]> = {}
  for (const group of GROUPS) by[group] = (await ask<{ data: Used[] }>(`/v1/usage?group_by=${group}&limit=${MOST_GROUPS}`)).data
  const { total } = await ask<{ total: Used }>('/v1/usage')
  const runs: Run[] = []
  for (let before = ''; ; ) {
    const { data, next } = await ask<{ data: Run[]; next: string | null }>(`/v1/runs?limit=100${before && `&before=${before}`}`)
    runs.push(...data)
    if (next === null) return { total, by, runs, unmetered: stage.unmetered }
    before = next
  }
}

export function judgeAccounts({ total, by, runs, unmetered }: Accounts, stories: readonly Story[]): Violation[] {
  const found: Violation[] = []
  const say = (key: string, what: string) => found.push({ rule: 'usage', key, what })
  compare('the runs of the list', total, sumOf(runs), say)
  for (const [group, rows] of Object.entries(by)) if (rows.length < MOST_GROUPS) compare(`the rows by ${group}`, total, added(rows), say)
  const known = new Map(runs.map((run) => [run.id, run]))
  for (const { key, run: id, watches } of stories) {
    const whole = watches.at(-1)
    if (id === undefined || !whole?.finished) continue
    const run = known.get(id)
    if (!run) {
      say(key, `run ${id} is in no list`)
      continue
    }
    const data = whole.events.findLast(({ event, data: its }) => event === 'message' && its !== undefined)?.data
    if (data === undefined) continue
    const result = JSON.parse(data) as { cost_of_turn_usd: number; usage: Tokens }
    // A runner that was killed between a result and the end of its run does not know of it any more.
    if (run.usage === null && run.status !== 'succeeded') continue
    if (TOKENS.some((name) => run.usage?.[name] !== result.usage[name])) say(key, `${JSON.stringify(run.usage)} is not the usage of its result`)
    // The gateway has seen no request of this CLI, so there it costs nothing, whatever it says.
    const cost = unmetered.has(run.runner_id ?? '') ? result.cost_of_turn_usd : 0
    if (run.cost_estimated !== true && run.cost_usd !== cost) say(key, `${run.cost_usd} is not the ${cost} of its result`)
  }
  return found
}

function sumOf(runs: readonly Run[]): Used {
  return {
    ...added(
      runs.map(({ status, usage, cost_usd, cost_estimated, duration_ms }) => ({
        runs: 1,
        succeeded: status === 'succeeded' ? 1 : 0,
        failed: status === 'failed' || status === 'lost' ? 1 : 0,
        cancelled: status === 'cancelled' ? 1 : 0,
        sessions: 0,
        input_tokens: usage?.input_tokens ?? 0,
        output_tokens: usage?.output_tokens ?? 0,
        cache_creation_input_tokens: usage?.cache_creation_input_tokens ?? 0,
        cache_read_input_tokens: usage?.cache_read_input_tokens ?? 0,
        cost_usd: cost_usd ?? 0,
        estimated: cost_estimated === true ? 1 : 0,
        duration_ms: duration_ms ?? 0,
      })),
    ),
    sessions: new Set(runs.map(({ session_id }) => session_id)).size,
  }
}

const nanos = (usd: number) => BigInt(Math.round(usd * 1e9))

function added(rows: readonly Used[]): Used {
  const sums = Object.fromEntries(COUNTS.map((name) => [name, rows.reduce((sum, row) => sum + row[name], 0)])) as Used
  return { ...sums, sessions: NaN, cost_usd: Number(rows.reduce((sum, { cost_usd }) => sum + nanos(cost_usd), 0n)) / 1e9 }
}

function compare(what: string, total: Used, sums: Used, say: (key: string, what: string) => void): void {
  for (const name of COUNTS) if (total[name] !== sums[name]) say(what, `${name} is ${total[name]}, but they have ${sums[name]}`)
  if (nanos(total.cost_usd) !== nanos(sums.cost_usd)) say(what, `cost_usd is ${total.cost_usd}, but they have ${sums.cost_usd}`)
  // A session may be in rows of several days or models.
  if (!Number.isNaN(sums.sessions) && total.sessions !== sums.sessions) say(what, `sessions is ${total.sessions}, but they have ${sums.sessions}`)
}
