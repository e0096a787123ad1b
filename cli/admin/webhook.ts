/** `runyard webhook …`: who is told of runs and sessions, and what became of it. */
import { Option, type Command } from 'commander'
import { z } from 'zod'
import { WEBHOOK_EVENTS, WebhookFormat } from '../../shared/webhooks.ts'
import * as o from '../options.ts'
import { out } from '../output.ts'
import { facts, table, when } from '../table.ts'
import { adminFlags, openAdmin, part, type AdminFlags } from './call.ts'

const Webhook = z.looseObject({
  id: z.string(),
  url: z.string(),
  events: z.array(z.string()).nullable(),
  format: z.string(),
  enabled: z.boolean(),
})
const WithSecret = z.looseObject({ id: z.string(), secret: z.string() })
const Delivery = z.looseObject({
  id: z.string(),
  webhook: z.string().nullable(),
  event: z.string(),
  url: z.string(),
  state: z.string(),
  attempts: z.number(),
  next_at: z.string().nullable(),
  last_at: z.string().nullable(),
  status: z.number().nullable(),
  error: z.string().nullable(),
  run_id: z.string().nullable(),
  session_id: z.string().nullable(),
  created_at: z.string(),
  body: z.string().nullish(),
})
type Delivery = z.infer<typeof Delivery>

type EditFlags = AdminFlags & {
  readonly to?: string
  readonly event?: string[]
  readonly anyEvent?: true
  readonly format?: string
  readonly enable?: true
  readonly disable?: true
}
type ListFlags = AdminFlags & { readonly webhook?: string; readonly run?: string; readonly state?: string; readonly limit: number }

export function webhookCommands(program: Command): void {
  const webhook = program.command('webhook').description('who is told of runs and sessions')

  editFlags(webhook.command('add').description('tell this address; its secret is shown once'))
    .argument('<address>', 'https://example.com/hook')
    .action(async (address: string, flags: EditFlags) => {
      const admin = await openAdmin(flags)
      const answer = WithSecret.parse(await admin.send('POST', 'webhooks', { url: address, tenant: flags.tenant, ...wish(flags) }))
      admin.show(answer, () => {
        out(`webhook ${answer.id} is added`)
        saySecret(answer.secret)
      })
    })

  adminFlags(webhook.command('list').description('webhooks, by id')).action(async (flags: AdminFlags) => {
    const admin = await openAdmin(flags)
    const data = await admin.list(Webhook, 'webhooks', { tenant: flags.tenant })
    admin.show({ data }, () =>
      table(
        ['ID', 'STATE', 'FORMAT', 'EVENTS', 'ADDRESS'],
        data.map((hook) => [hook.id, hook.enabled ? 'enabled' : 'disabled', hook.format, hook.events?.join(', ') ?? 'all', hook.url]),
        'nobody is told of anything, but for addresses that single requests name',
      ),
    )
  })

  editFlags(one(webhook, 'edit', 'change what is named of a webhook'))
    .addOption(new Option('--to <address>', 'another address, for what waits too'))
    .action(async (id: string, flags: EditFlags) => {
      const admin = await openAdmin(flags)
      const answer = Webhook.parse(await admin.send('PATCH', `webhooks/${part(id)}`, { url: flags.to, ...wish(flags) }, { tenant: flags.tenant }))
      admin.show(answer, () => out(`webhook ${id} is changed${answer.enabled ? '' : ', disabled'}`))
    })

  one(webhook, 'delete', 'tell an address no more; what waits for it is dropped').action(async (id: string, flags: AdminFlags) => {
    const admin = await openAdmin(flags)
    await admin.send('DELETE', `webhooks/${part(id)}`, undefined, { tenant: flags.tenant })
    admin.show({ id, deleted: true }, () => out(`webhook ${id} is deleted`))
  })

  one(webhook, 'secret', 'sign with a new secret; the one before signs along for a day. `request`: for addresses of single requests').action(
    async (id: string, flags: AdminFlags) => {
      const admin = await openAdmin(flags)
      const answer = WithSecret.parse(await admin.send('POST', `webhooks/${part(id)}/secret`, undefined, { tenant: flags.tenant }))
      admin.show(answer, () => saySecret(answer.secret))
    },
  )

  one(webhook, 'test', 'send a message to a webhook').action(async (id: string, flags: AdminFlags) => {
    const admin = await openAdmin(flags)
    const answer = Delivery.parse(await admin.send('POST', `webhooks/${part(id)}/test`, undefined, { tenant: flags.tenant }))
    admin.show(answer, () => out(`${answer.id} is on its way; \`runyard webhook delivery ${answer.id}\` shows what becomes of it`))
  })

  adminFlags(webhook.command('deliveries').description('what was sent, the newest first'))
    .addOption(new Option('--webhook <id>', 'to this one only; `request`: to addresses of single requests'))
    .addOption(new Option('--run <id>', 'of this run only'))
    .addOption(new Option('--state <state>', 'those only').choices(['pending', 'delivered', 'failed']))
    .addOption(new Option('--limit <n>', 'this many at most').default(50).argParser(o.integer(1, 10_000)))
    .action(async ({ webhook: hook, run, state, limit, ...flags }: ListFlags) => {
      const admin = await openAdmin(flags)
      const data = await admin.list(Delivery, 'webhook-deliveries', { tenant: flags.tenant, webhook: hook, run, state }, limit)
      admin.show({ data }, () =>
        table(
          ['ID', 'WHEN', 'EVENT', 'STATE', 'TRIES', 'LAST', 'TO'],
          data.map((d) => [d.id, when(d.created_at), d.event, d.state, d.attempts, last(d), d.webhook ?? d.url]),
          'nothing was sent',
        ),
      )
    })

  one(webhook, 'delivery', 'one message, in full').action(async (id: string, flags: AdminFlags) => {
    const admin = await openAdmin(flags)
    const answer = Delivery.parse(await admin.send('GET', `webhook-deliveries/${part(id)}`, undefined, { tenant: flags.tenant }))
    admin.show(answer, () => describe(answer))
  })

  one(webhook, 'redeliver', 'send a message again, now').action(async (id: string, flags: AdminFlags) => {
    const admin = await openAdmin(flags)
    const answer = Delivery.parse(await admin.send('POST', `webhook-deliveries/${part(id)}/redeliver`, undefined, { tenant: flags.tenant }))
    admin.show(answer, () => out(`${id} is on its way`))
  })

  adminFlags(webhook.command('settings').description('how webhooks are sent, or set it; for operators'), 'router')
    .addOption(new Option('--allow-private', 'addresses of this machine and of private networks may be called'))
    .addOption(new Option('--no-allow-private', 'they may not'))
    .addOption(new Option('--timeout <seconds>', 'how long a receiver has to answer').argParser(o.integer(1, 60)))
    .action(async ({ allowPrivate, timeout, ...flags }: AdminFlags & { allowPrivate?: boolean; timeout?: number }) => {
      const admin = await openAdmin(flags)
      const Settings = z.looseObject({ allow_private: z.boolean(), timeout_s: z.number() })
      const before = Settings.parse(await admin.send('GET', 'webhook-settings'))
      const wished = { allow_private: allowPrivate ?? before.allow_private, timeout_s: timeout ?? before.timeout_s }
      const isAsked = allowPrivate !== undefined || timeout !== undefined
      const answer = isAsked ? Settings.parse(await admin.send('PUT', 'webhook-settings', wished)) : before
      admin.show(answer, () => facts([['private addresses', answer.allow_private ? 'allowed' : 'refused'], ['timeout', `${answer.timeout_s} s`]]))
    })
}

const one = (parent: Command, name: string, description: string) =>
  adminFlags(parent.command(name).description(description)).argument('<id>', 'which one')

function editFlags(command: Command): Command {
  return (command.options.some(({ long }) => long === '--json') ? command : adminFlags(command))
    .addOption(new Option('--event <event>', 'tell of this (repeatable)').choices(WEBHOOK_EVENTS).argParser(some))
    .addOption(new Option('--any-event', 'tell of everything').conflicts('event'))
    .addOption(new Option('--format <format>', 'the shape of what is sent').choices(WebhookFormat.options))
    .addOption(new Option('--disable', 'tell nothing for now'))
    .addOption(new Option('--enable', 'tell again').conflicts('disable'))
}

function wish({ event, anyEvent, format, enable, disable }: EditFlags): Record<string, unknown> {
  return { events: anyEvent ? null : event, format, enabled: disable ? false : enable ? true : undefined }
}

const some = (value: string, all: string[] = []) => o.list(value, all)

function saySecret(secret: string): void {
  out(`  secret  ${secret}`)
  out('  It is not shown again: give it to the receiver, which checks signatures by it.')
}

const last = ({ status, error, last_at }: Delivery) => (last_at === null ? null : (error ?? status))

function describe(d: Delivery): void {
  facts([
    ['id', d.id],
    ['event', d.event],
    ['to', d.url],
    ['webhook', d.webhook ?? 'none: the request named the address'],
    ['run', d.run_id ?? undefined],
    ['session', d.session_id ?? undefined],
    ['state', d.state],
    ['tries', d.attempts],
    ['last', d.last_at && `${when(d.last_at)}: ${d.status ?? ''}${d.error === null ? '' : ` ${d.error}`}`],
    ['next', d.next_at === null ? undefined : when(d.next_at)],
    ['body', d.body === null ? 'not kept any more' : d.body],
  ])
}
