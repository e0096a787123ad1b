/** `runyard tenant …`: who the router serves. */
import { Option, type Command } from 'commander'
import { z } from 'zod'
import { out } from '../output.ts'
import { facts, table, when } from '../table.ts'
import { adminFlags, openAdmin, part, type AdminFlags } from './call.ts'

const Tenant = z.looseObject({
  id: z.string(),
  name: z.string().nullable(),
  settings: z.looseObject({}),
  usage: z.looseObject({}).optional(),
  disabled: z.boolean(),
  disabled_at: z.string().nullable(),
  created_at: z.string(),
})
type Tenant = z.infer<typeof Tenant>
type EditFlags = AdminFlags & { readonly name?: string; readonly disable?: true; readonly enable?: true }

export function tenantCommands(program: Command): void {
  const tenant = program.command('tenant').description('who the router serves')

  withName(adminFlags(tenant.command('add').description('make a tenant'), 'router'))
    .argument('<id>', 'lower-case letters, digits, - and _')
    .action(async (id: string, flags: EditFlags) => show(flags, 'POST', 'tenants', { id, name: flags.name }, 'is there'))

  adminFlags(tenant.command('list').description('tenants, by id'), 'router').action(async (flags: AdminFlags) => {
    const admin = await openAdmin(flags)
    const data = await admin.list(Tenant, 'tenants')
    admin.show({ data }, () =>
      table(
        ['ID', 'NAME', 'STATE', 'SINCE', 'SETTINGS'],
        data.map((t) => [
          t.id,
          t.name,
          t.disabled ? 'disabled' : 'enabled',
          when(t.created_at),
          Object.keys(t.settings).join(', '),
        ]),
        'there are no tenants yet',
      ),
    )
  })

  adminFlags(tenant.command('show').description('one tenant, with its settings'), 'router')
    .argument('<id>', 'which one')
    .action(async (id: string, flags: AdminFlags) => {
      const admin = await openAdmin(flags)
      const answer = Tenant.parse(await admin.send('GET', `tenants/${part(id)}`))
      admin.show(answer, () => describe(answer))
    })

  withName(adminFlags(tenant.command('edit').description('rename, disable or enable a tenant'), 'router'))
    .argument('<id>', 'which one')
    .addOption(new Option('--disable', 'let nobody of it in, its runners included'))
    .addOption(new Option('--enable', 'let its people in again').conflicts('disable'))
    .action(async (id: string, flags: EditFlags) => {
      const disabled = flags.disable ? true : flags.enable ? false : undefined
      await show(flags, 'PATCH', `tenants/${part(id)}`, { name: flags.name, disabled }, 'is changed')
    })
}

const withName = (command: Command) => command.addOption(new Option('--name <name>', 'what people call it'))

async function show(flags: AdminFlags, method: 'POST' | 'PATCH', path: string, body: unknown, done: string): Promise<void> {
  const admin = await openAdmin(flags)
  const answer = Tenant.parse(await admin.send(method, path, body))
  admin.show(answer, () => out(`tenant ${answer.id} ${done}${answer.disabled ? ', disabled' : ''}`))
}

function describe(t: Tenant): void {
  facts([
    ['id', t.id],
    ['name', t.name],
    ['disabled', t.disabled ? when(t.disabled_at) : false],
    ['since', when(t.created_at)],
    ...Object.entries(t.settings).map(([name, value]) => [name, JSON.stringify(value)] as const),
    ...Object.entries(t.usage ?? {}).map(([name, value]) => [`used of ${name}`, JSON.stringify(value)] as const),
  ])
}
