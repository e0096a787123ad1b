/** `runyard session …`: the conversations of the tenant that the token is for, over the routes that its apps use. */
import { Option, type Command } from 'commander'
import { z } from 'zod'
import { openClient } from '../client.ts'
import * as o from '../options.ts'
import { bold, out } from '../output.ts'
import { facts, table, text, usd, when } from '../table.ts'
import { adminFlags, part, type AdminFlags } from './call.ts'

const Session = z.looseObject({
  id: z.string(),
  status: z.string(),
  title: z.string().nullable(),
  cwd: z.string().nullable(),
  model: z.string().nullable(),
  runner_id: z.string().nullable(),
  metadata: z.record(z.string(), z.unknown()).nullable(),
  runs: z.number(),
  active_runs: z.number(),
  messages: z.number(),
  cost_usd: z.number(),
  created_at: z.string(),
  last_run_at: z.string().nullable(),
})
const Message = z.looseObject({
  id: z.string(),
  role: z.string(),
  content: z.string().nullable(),
  pruned: z.boolean().optional(),
  error: z.object({ code: z.string(), message: z.string() }).optional(),
  created_at: z.string(),
})
type Session = z.infer<typeof Session>
type Message = z.infer<typeof Message>
const Page = z.object({ data: z.array(z.unknown()), next: z.string().nullable() })

type Limited = AdminFlags & { readonly limit: number }
const STATUSES = ['active', 'archived', 'closed']
const PAGE = 100

export function sessionCommands(program: Command): void {
  const session = program.command('session').description('conversations: list, show, search, rename, archive, delete, messages')
  const command = (name: string, about: string) => adminFlags(session.command(name).description(about), 'router')
  const onOne = (name: string, about: string) => command(name, about).argument('<id>', 'which session')
  const limited = (made: Command) => made.addOption(new Option('--limit <n>', 'this many at most').default(50).argParser(o.integer(1, 10_000)))

  limited(command('list', 'the one that was used last first'))
    .addOption(new Option('--status <status>', 'only those').choices(STATUSES))
    .action(async ({ status, limit, ...flags }: Limited & { status?: string }) => {
      const data = await pages(flags, '', { status }, limit, Session)
      show(flags, { data }, () => rows(data, 'there are no sessions yet'))
    })

  limited(command('search', 'those that hold a text in their title, directory, metadata or prompts, or whose id begins with it'))
    .argument('<text>', 'what to look for')
    .action(async (q: string, { limit, ...flags }: Limited) => {
      const data = await pages(flags, '/search', { q }, limit, Session)
      show(flags, { data }, () => rows(data, 'no session holds that'))
    })

  onOne('show', 'one of them').action(async (id: string, flags: AdminFlags) => {
    const one = Session.parse(await send(flags, 'GET', `/${part(id)}`))
    show(flags, one, () => describe(one))
  })

  onOne('rename', 'give it a title, or none')
    .argument('<title>', "what people call it; '' takes the title away")
    .action((id: string, title: string, flags: AdminFlags) => change(flags, id, { title: title || null }))

  onOne('archive', 'let it take no more runs')
    .addOption(new Option('--undo', 'let it take runs again'))
    .action((id: string, { undo, ...flags }: AdminFlags & { undo?: true }) => change(flags, id, { status: undo ? 'active' : 'archived' }))

  onOne('delete', 'take it away, with what was said in it').action(async (id: string, flags: AdminFlags) => {
    await send(flags, 'DELETE', `/${part(id)}`)
    show(flags, { id, deleted: true }, () => out(`session ${text(id)} is deleted`))
  })

  limited(onOne('messages', 'what was said last, the oldest of it first')).action(async (id: string, { limit, ...flags }: Limited) => {
    const data = (await pages(flags, `/${part(id)}/messages`, {}, limit, Message)).toReversed()
    show(flags, { data }, () => (data.length === 0 ? out('nothing was said yet') : data.forEach(say)))
  })
}

async function send(flags: AdminFlags, method: 'GET' | 'PATCH' | 'DELETE', path: string, body?: object): Promise<unknown> {
  const client = await openClient({ dataDir: flags.dataDir, url: flags.url })
  const response = await client.fetch(`/v1/sessions${path}`, { method, ...(body ? { body: JSON.stringify(body) } : {}) })
  return response.status === 204 ? undefined : await response.json()
}

/** Pages until there are `limit` of them; a page of a search may be empty and not the last. */
async function pages<S extends z.ZodType>(
  flags: AdminFlags,
  path: string,
  query: Readonly<Record<string, string | undefined>>,
  limit: number,
  item: S,
): Promise<z.infer<S>[]> {
  const all: z.infer<S>[] = []
  for (let from: string | null | undefined; from !== null && all.length < limit;) {
    const search = new URLSearchParams({ limit: String(Math.min(PAGE, limit - all.length)) })
    for (const [name, value] of Object.entries({ ...query, before: from })) if (value !== undefined) search.set(name, value)
    const { data, next } = Page.parse(await send(flags, 'GET', `${path}?${search.toString()}`))
    all.push(...data.map((row) => item.parse(row)))
    from = next
  }
  return all
}

async function change(flags: AdminFlags, id: string, wish: object): Promise<void> {
  const one = Session.parse(await send(flags, 'PATCH', `/${part(id)}`, wish))
  show(flags, one, () => out(`session ${one.id} is ${one.title === null ? 'without a title' : `called ${text(one.title)}`}, ${one.status}`))
}

const show = (flags: AdminFlags, value: unknown, human: () => void) => (flags.json ? out(JSON.stringify(value)) : human())

function rows(data: readonly Session[], none: string): void {
  table(
    ['SESSION', 'TITLE', 'STATUS', 'RUNS', 'COST', 'LAST RUN', 'DIRECTORY'],
    data.map((s) => [s.id, s.title, s.active_runs > 0 ? 'busy' : s.status, s.runs, usd(s.cost_usd), when(s.last_run_at), s.cwd]),
    none,
  )
}

function describe(s: Session): void {
  facts([
    ['id', s.id],
    ['title', s.title],
    ['status', s.status],
    ['directory', s.cwd],
    ['runner', s.runner_id],
    ['model', s.model],
    ['runs', s.runs],
    ['under way', s.active_runs],
    ['messages', s.messages],
    ['cost', usd(s.cost_usd)],
    ['since', when(s.created_at)],
    ['last run', when(s.last_run_at)],
    ...Object.entries(s.metadata ?? {}).map(([name, value]) => [`metadata ${name}`, JSON.stringify(value)] as const),
  ])
}

function say({ role, created_at, content, pruned, error }: Message): void {
  out(bold(`${role}  ${when(created_at) ?? ''}`))
  // Line by line: what comes from elsewhere may break lines, and do nothing else to a terminal.
  const said = content ?? (pruned ? '(no longer kept)' : '(nothing)')
  for (const line of said.split(/\r?\n/)) out(line === '' ? '' : text(line.replaceAll('\t', '  ')))
  if (error) out(text(`${error.code}: ${error.message}`))
  out('')
}
