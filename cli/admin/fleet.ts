/**
 * `runyard runners …`, `pools` and `enrolment …`: the machines, as the router sees them. `runyard runner …` is about this
 * one.
 */
import { Option, type Command } from 'commander'
import { z } from 'zod'
import * as o from '../options.ts'
import { out, say } from '../output.ts'
import { facts, table, when } from '../table.ts'
import { adminFlags, openAdmin, part, type AdminFlags } from './call.ts'

const Runner = z.looseObject({
  id: z.string(),
  name: z.string(),
  pool: z.string(),
  labels: z.record(z.string(), z.string()),
  status: z.string(),
  drained: z.boolean(),
  slots: z.number(),
  busy: z.number(),
  provider: z.string().nullable(),
  cli_version: z.string().nullable(),
  agent_version: z.string().nullable(),
  policy: z
    .looseObject({
      bypass: z.boolean(),
      sandbox: z.string(),
      allow_private_base_urls: z.boolean(),
      permission_modes: z.array(z.string()),
    })
    .nullable(),
  created_at: z.string(),
  last_seen_at: z.string().nullable(),
  revoked_at: z.string().nullable(),
})
type Runner = z.infer<typeof Runner>
const Pool = z.looseObject({
  name: z.string(),
  runners: z.number(),
  online: z.number(),
  draining: z.number(),
  slots: z.number(),
  busy: z.number(),
  waiting: z.number(),
  enrolments: z.number(),
})
const Enrolment = z.looseObject({
  id: z.string(),
  pool: z.string(),
  created_at: z.string(),
  expires_at: z.string(),
  used_at: z.string().nullable(),
})
const NewEnrolment = z.looseObject({ id: z.string(), token: z.string(), pool: z.string(), expires_at: z.string() })

export function fleetCommands(program: Command): void {
  const runners = program.command('runners').description('the machines that are enrolled at the router')

  adminFlags(runners.command('list').description('runners, the oldest first'))
    .addOption(new Option('--pool <pool>', 'of this pool only'))
    .action(async (flags: AdminFlags & { pool?: string }) => {
      const admin = await openAdmin(flags)
      const data = await admin.list(Runner, 'runners', { tenant: flags.tenant, pool: flags.pool })
      admin.show({ data }, () =>
        table(
          ['ID', 'NAME', 'POOL', 'STATUS', 'BUSY', 'LOGIN', 'CLI', 'AGENT', 'LABELS'],
          data.map((r) => [
            r.id,
            r.name,
            r.pool,
            r.status,
            r.status === 'offline' ? null : `${r.busy}/${r.slots}`,
            r.provider,
            r.cli_version,
            r.agent_version,
            labels(r),
          ]),
          'no machine is enrolled: `runyard enrolment create` begins it',
        ),
      )
    })

  adminFlags(runners.command('show').description('one runner, and what its owner allows'))
    .argument('<id>', 'which one')
    .action(async (id: string, flags: AdminFlags) => {
      const admin = await openAdmin(flags)
      const runner = Runner.parse(await admin.send('GET', `runners/${part(id)}`))
      admin.show(runner, () => describe(runner))
    })

  act(runners, 'drain', 'give a runner nothing new; what it runs goes on', 'POST', 'drain')
  act(runners, 'undrain', 'give a drained runner work again', 'DELETE', 'drain')
  act(runners, 'revoke', 'shut a runner out for good', 'POST', 'revoke')

  adminFlags(program.command('pools').description('pools, and what they can take')).action(async (flags: AdminFlags) => {
    const admin = await openAdmin(flags)
    const { data } = z
      .object({ data: z.array(Pool) })
      .parse(await admin.send('GET', 'pools', undefined, { tenant: flags.tenant }))
    admin.show({ data }, () =>
      table(
        ['POOL', 'RUNNERS', 'ONLINE', 'DRAINING', 'BUSY', 'WAITING', 'ENROLMENTS'],
        data.map((p) => [p.name, p.runners, p.online, p.draining, `${p.busy}/${p.slots}`, p.waiting, p.enrolments]),
        'there are no pools: `runyard enrolment create --pool <name>` begins one',
      ),
    )
  })

  enrolmentCommands(program)
}

function enrolmentCommands(program: Command): void {
  const enrolment = program.command('enrolment').description('one-time tokens that let a machine in')

  adminFlags(enrolment.command('create').description('make a token for one machine; it is printed once'))
    .addOption(new Option('--pool <pool>', 'the pool that the machine will belong to').default('default'))
    .addOption(new Option('--ttl <duration>', 'how long it is good, an hour at most').argParser(o.duration))
    .action(async ({ pool, ttl, ...flags }: AdminFlags & { pool: string; ttl?: number }) => {
      const admin = await openAdmin(flags)
      const made = NewEnrolment.parse(await admin.send('POST', 'enrolment-tokens', { pool, ttl_s: ttl, tenant: flags.tenant }))
      admin.show(made, () => {
        out(made.token)
        say(`for one machine in pool ${made.pool}, until ${made.expires_at}`)
        say('there: `runyard runner enroll --url … --token -`')
      })
    })

  adminFlags(enrolment.command('list').description('tokens that were made, without the tokens')).action(
    async (flags: AdminFlags) => {
      const admin = await openAdmin(flags)
      const data = await admin.list(Enrolment, 'enrolment-tokens', { tenant: flags.tenant })
      admin.show({ data }, () =>
        table(
          ['ID', 'POOL', 'CREATED', 'EXPIRES', 'USED'],
          data.map((e) => [e.id, e.pool, when(e.created_at), when(e.expires_at), when(e.used_at)]),
          'there are no enrolment tokens that somebody could still use',
        ),
      )
    },
  )

  adminFlags(enrolment.command('revoke').description('take a token back that nobody has used yet'))
    .argument('<id>', 'which one, as `enrolment list` shows it')
    .action(async (id: string, flags: AdminFlags) => {
      const admin = await openAdmin(flags)
      await admin.send('DELETE', `enrolment-tokens/${part(id)}`)
      admin.show({ id, revoked: true }, () => out(`${id} enrols nobody any more`))
    })
}

function act(parent: Command, name: string, description: string, method: 'POST' | 'DELETE', verb: string): void {
  adminFlags(parent.command(name).description(description))
    .argument('<id>', 'which one')
    .action(async (id: string, flags: AdminFlags) => {
      const admin = await openAdmin(flags)
      const runner = Runner.parse(await admin.send(method, `runners/${part(id)}/${verb}`))
      const later = runner.drained && runner.status === 'offline' ? ', and drained when it comes back' : ''
      admin.show(runner, () => out(`runner ${runner.id} (${runner.name}) is ${runner.status}${later}`))
    })
}

const labels = (runner: Runner) =>
  Object.entries(runner.labels)
    .map(([key, value]) => `${key}=${value}`)
    .join(' ')

function describe(r: Runner): void {
  facts([
    ['id', r.id],
    ['name', r.name],
    ['pool', r.pool],
    ['status', r.status],
    ['drained', r.drained],
    ['busy', r.status === 'offline' ? null : `${r.busy} of ${r.slots} slots`],
    ['labels', labels(r)],
    ['login', r.provider],
    ['cli', r.cli_version],
    ['agent', r.agent_version],
    ['sandbox', r.policy?.sandbox],
    ['permission modes', r.policy?.permission_modes.join(', ')],
    ['bypass', r.policy?.bypass],
    ['private base urls', r.policy?.allow_private_base_urls],
    ['enrolled', when(r.created_at)],
    ['last seen', when(r.last_seen_at)],
    ['revoked', r.revoked_at === null ? undefined : when(r.revoked_at)],
  ])
}
