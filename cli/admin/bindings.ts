/** `runyard bindings …` and `runyard audit`: which session is with which provider, and who changed what. */
import { InvalidArgumentError, Option, type Command } from 'commander'
import { z } from 'zod'
import * as o from '../options.ts'
import { out } from '../output.ts'
import { table, when } from '../table.ts'
import { adminFlags, openAdmin, part, type AdminFlags } from './call.ts'

const Binding = z.looseObject({ session_id: z.string(), provider: z.string(), created_at: z.string(), expires_at: z.string() })
const Entry = z.looseObject({
  at: z.string(),
  actor: z.string(),
  action: z.string(),
  target: z.string(),
  before: z.unknown(),
  after: z.unknown(),
})

export function bindingsCommands(program: Command): void {
  const bindings = program.command('bindings').description('sessions and the providers they are with')

  adminFlags(bindings.command('list').description('all of them, by session'))
    .addOption(new Option('--provider <id>', 'with this provider only'))
    .action(async (flags: AdminFlags & { provider?: string }) => {
      const admin = await openAdmin(flags)
      const data = await admin.list(Binding, 'bindings', { tenant: flags.tenant, provider: flags.provider })
      admin.show({ data }, () =>
        table(
          ['SESSION', 'PROVIDER', 'SINCE', 'UNTIL'],
          data.map((b) => [b.session_id, b.provider, when(b.created_at), when(b.expires_at)]),
          'no session is bound to a provider',
        ),
      )
    })

  adminFlags(bindings.command('remove').description('let the next run of a session choose its provider anew'))
    .argument('<session>', 'which session')
    .action(async (session: string, flags: AdminFlags) => {
      const admin = await openAdmin(flags)
      await admin.send('DELETE', `bindings/${part(session)}`, undefined, { tenant: flags.tenant })
      admin.show({ session_id: session, removed: true }, () => out(`session ${session} is bound to no provider`))
    })
}

type AuditFlags = AdminFlags & {
  readonly action?: string
  readonly target?: string
  readonly since?: string
  readonly limit: number
}

export function auditCommand(program: Command): void {
  adminFlags(program.command('audit').description('who changed what, the newest first'))
    .addOption(new Option('--action <action>', 'such as provider.update'))
    .addOption(new Option('--target <target>', 'such as provider/main'))
    .addOption(new Option('--since <when>', 'for the last 90s, 15m, 12h or 30d, or since a date').argParser(moment))
    .addOption(new Option('--limit <n>', 'this many at most').default(50).argParser(o.integer(1, 10_000)))
    .action(async ({ action, target, since, limit, ...flags }: AuditFlags) => {
      const admin = await openAdmin(flags)
      const data = await admin.list(Entry, 'audit', { tenant: flags.tenant, action, target, since }, limit)
      admin.show({ data }, () =>
        table(
          ['WHEN', 'WHO', 'DID', 'TO', 'CHANGED'],
          data.map((e) => [when(e.at), e.actor, e.action, e.target, difference(e.before, e.after)]),
          'nothing was changed',
        ),
      )
    })
}

function moment(text: string): string {
  if (/^\d+[smhd]$/.test(text)) return new Date(Date.now() - o.duration(text) * 1_000).toISOString()
  const at = Date.parse(text)
  if (Number.isNaN(at)) throw new InvalidArgumentError('must look like 12h or 2026-11-21')
  return new Date(at).toISOString()
}

const NOISE = new Set(['updated_at', 'version'])

/** `weight 1 → 3`: the fields that a change touched. */
export function difference(before: unknown, after: unknown): string {
  const [was, is] = [Object(before) as Record<string, unknown>, Object(after) as Record<string, unknown>]
  if (before === null || after === null) return ''
  const names = [...new Set([...Object.keys(was), ...Object.keys(is)])].filter(
    (name) => !NOISE.has(name) && JSON.stringify(was[name]) !== JSON.stringify(is[name]),
  )
  return names.map((name) => `${name} ${brief(was[name])} → ${brief(is[name])}`).join(', ')
}

function brief(value: unknown): string {
  const text = value === undefined ? 'none' : typeof value === 'string' ? value : JSON.stringify(value)
  return text.length > 40 ? `${text.slice(0, 40)}…` : text
}
