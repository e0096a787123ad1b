/** `runyard compat …`: how the dialects of older servers are answered. */
import { InvalidArgumentError, type Command } from 'commander'
import { z } from 'zod'
import { CompatSettings } from '../../shared/compat-settings.ts'
import { table } from '../table.ts'
import { adminFlags, openAdmin, type Admin, type AdminFlags } from './call.ts'

type Setting = { readonly path: readonly string[]; readonly value: unknown }
type Table = Record<string, unknown>

export function compatCommands(program: Command): void {
  const compat = program.command('compat').description('how the dialects of older servers are answered')

  adminFlags(compat.command('show').description('what holds, with the defaults'), 'router').action(async (flags: AdminFlags) => {
    const admin = await openAdmin(flags)
    show(admin, await read(admin))
  })

  adminFlags(compat.command('set').description('change single settings; the others stay'), 'router')
    .argument('<setting=value...>', 'such as ccs.enabled=false or claude_code_api.anonymous.tenant=guests; null takes it away', collect)
    .action(async (settings: readonly Setting[], flags: AdminFlags) => {
      const admin = await openAdmin(flags)
      const wish = structuredClone<Table>(await read(admin))
      for (const { path, value } of settings) put(wish, path, value)
      show(admin, CompatSettings.parse(await admin.send('PUT', 'compat', wish)))
    })
}

const read = async (admin: Admin) => CompatSettings.parse(await admin.send('GET', 'compat'))

function show(admin: Admin, settings: CompatSettings): void {
  admin.show(settings, () => table(['SETTING', 'VALUE'], leaves(settings), 'nothing is set'))
}

function leaves(value: unknown, path: readonly string[] = []): [string, string][] {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return [[path.join('.'), JSON.stringify(value)]]
  return Object.entries(value).flatMap(([key, inner]) => leaves(inner, [...path, key]))
}

function collect(text: string, before: readonly Setting[] = []): Setting[] {
  const setting = /^([a-z][a-z0-9_]*(?:\.[a-z][a-z0-9_]*)+)=(.*)$/.exec(text)
  if (!setting) throw new InvalidArgumentError('must look like ccs.enabled=false')
  return [...before, { path: setting[1]!.split('.'), value: valueOf(setting[2]!) }]
}

/** JSON, or the text itself where it is none. */
function valueOf(text: string): unknown {
  try {
    return JSON.parse(text) as unknown
  } catch {
    return text
  }
}

const Inner = z.record(z.string(), z.unknown())

function put(at: Table, [key = '', ...rest]: readonly string[], value: unknown): void {
  if (rest.length === 0) {
    if (value === null) delete at[key]
    else at[key] = value
    return
  }
  const inner = { ...Inner.safeParse(at[key]).data }
  put(inner, rest, value)
  at[key] = inner
}
