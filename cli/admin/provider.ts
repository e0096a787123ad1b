/** `runyard provider …`: accounts that pay for tokens. */
import { InvalidArgumentError, Option, type Command } from 'commander'
import { z } from 'zod'
import { CliError, EXIT } from '../exit.ts'
import * as o from '../options.ts'
import { out, say } from '../output.ts'
import { facts, table, when } from '../table.ts'
import { adminFlags, openAdmin, part, warn, type AdminFlags } from './call.ts'
import { keyFlags, keyOf, type KeyFlags } from './secret.ts'

const Provider = z.looseObject({
  id: z.string(),
  name: z.string(),
  base_url: z.string().nullable(),
  key: z.object({ last4: z.string(), fingerprint: z.string() }).nullable(),
  env: z.record(z.string(), z.string()),
  models: z.array(z.string()).nullable(),
  model_map: z.record(z.string(), z.string()),
  prices: z.record(z.string(), z.looseObject({ input: z.number(), output: z.number() })).nullable(),
  weight: z.number(),
  enabled: z.boolean(),
  pools: z.array(z.string()).nullable(),
  version: z.number(),
  updated_at: z.string(),
  health: z.looseObject({
    state: z.string(),
    consecutive_failures: z.number(),
    open_until: z.string().nullable(),
    reason: z.string().nullable(),
    requests: z.number(),
    failed: z.number(),
    latency_ms: z.number().nullable(),
    models: z.array(z.looseObject({ model: z.string(), state: z.string() })),
    bound_sessions: z.number(),
  }),
  warnings: z.array(z.string()).default([]),
})
type Provider = z.infer<typeof Provider>

type EditFlags = AdminFlags &
  KeyFlags & {
    readonly name?: string
    readonly baseUrl?: string
    readonly weight?: number
    readonly model?: string[]
    readonly anyModel?: true
    readonly pool?: string[]
    readonly anyPool?: true
    readonly env?: Record<string, string> | false
    readonly map?: Record<string, string> | false
    readonly price?: Record<string, Price> | false
    readonly disabled?: true
  }
type Price = { input: number; output: number; cache_write?: number; cache_read?: number }

export function providerCommands(program: Command): void {
  const provider = program.command('provider').description('accounts that pay for tokens')

  editFlags(provider.command('add').description('add a provider; `local` is the login of the machine that runs'))
    .argument('<id>', 'what it will be called')
    .addOption(new Option('--disabled', 'add it without using it'))
    .action(async (id: string, flags: EditFlags) => {
      if (id !== 'local' && flags.keyFile === undefined && flags.keyEnv === undefined && flags.key === undefined)
        throw new CliError(
          EXIT.usage,
          `provider ${id} needs a key`,
          'give it by --key-file <file>, --key-file - for stdin, or --key-env <name>',
        )
      const body = { id, tenant: flags.tenant, ...(await wish(flags)), enabled: flags.disabled ? false : undefined }
      await change(flags, 'POST', 'providers', body, 'is added', {})
    })

  editFlags(provider.command('edit').description('change what is named of a provider'))
    .argument('<id>', 'which one')
    .action(async (id: string, flags: EditFlags) =>
      change(flags, 'PATCH', `providers/${part(id)}`, await wish(flags), 'is changed'),
    )

  adminFlags(provider.command('list').description('providers and how they do')).action(async (flags: AdminFlags) => {
    const admin = await openAdmin(flags)
    const data = await admin.list(Provider, 'providers', { tenant: flags.tenant })
    admin.show({ data }, () =>
      table(
        ['ID', 'STATE', 'WEIGHT', 'REQUESTS', 'FAILED', 'LATENCY', 'SESSIONS', 'KEY', 'BASE URL'],
        data.map((p) => [
          p.id,
          stateOf(p),
          p.weight,
          p.health.requests,
          p.health.failed,
          latency(p),
          p.health.bound_sessions,
          p.key && `…${p.key.last4}`,
          p.base_url,
        ]),
        'there are no providers: runs use the login of the machine they run on',
      ),
    )
  })

  one(provider, 'show', 'one provider, in full').action(async (id: string, flags: AdminFlags) => {
    const admin = await openAdmin(flags)
    const answer = Provider.parse(await admin.send('GET', `providers/${part(id)}`, undefined, { tenant: flags.tenant }))
    admin.show(answer, () => describe(answer))
  })
  one(provider, 'enable', 'use a provider again').action((id: string, flags: AdminFlags) =>
    change(flags, 'POST', `providers/${part(id)}/enable`, {}, 'is enabled'),
  )
  one(provider, 'disable', 'never choose a provider').action((id: string, flags: AdminFlags) =>
    change(flags, 'POST', `providers/${part(id)}/disable`, {}, 'is disabled'),
  )
  one(provider, 'reset', 'close the breakers of a provider').action((id: string, flags: AdminFlags) =>
    change(flags, 'POST', `providers/${part(id)}/reset`, {}, 'is taken for healthy again'),
  )
  one(provider, 'remove', 'remove a provider').action(async (id: string, flags: AdminFlags) => {
    const admin = await openAdmin(flags)
    await admin.send('DELETE', `providers/${part(id)}`, undefined, { tenant: flags.tenant })
    admin.show({ id, removed: true }, () => out(`provider ${id} is removed`))
  })
}

const one = (parent: Command, name: string, description: string) =>
  adminFlags(parent.command(name).description(description)).argument('<id>', 'which one')

async function change(
  flags: AdminFlags,
  method: 'POST' | 'PATCH',
  path: string,
  body: unknown,
  done: string,
  query: { tenant?: string } = flags,
): Promise<void> {
  const admin = await openAdmin(flags)
  const answer = Provider.parse(await admin.send(method, path, body, { tenant: query.tenant }))
  admin.show(answer, () => {
    out(`provider ${answer.id} ${done}${answer.key ? `, with the key …${answer.key.last4} (${answer.key.fingerprint})` : ''}`)
    warn(answer.warnings)
  })
  if (flags.json) return
  if (answer.id === 'local' && answer.enabled)
    say('a personal login is for its owner: to serve others, add providers with API keys')
}

function editFlags(command: Command): Command {
  return keyFlags(adminFlags(command))
    .addOption(new Option('--base-url <url>', 'where its API is; paths such as /v1/messages are put behind it'))
    .addOption(new Option('--name <name>', 'what people call it'))
    .addOption(new Option('--weight <n>', 'its share of the runs, 1 to 10').argParser(o.integer(1, 10)))
    .addOption(new Option('--model <name>', 'a model that it serves (repeatable)').argParser(some))
    .addOption(new Option('--any-model', 'it serves every model').conflicts('model'))
    .addOption(new Option('--pool <pool>', 'a pool that may use it (repeatable)').argParser(some))
    .addOption(new Option('--any-pool', 'every pool may use it').conflicts('pool'))
    .addOption(new Option('--env <k=v>', 'environment of the CLI and its tools, never a secret (repeatable)').argParser(pairs))
    .addOption(new Option('--no-env', 'take its environment away'))
    .addOption(new Option('--map <model=model>', 'the model it is asked for instead (repeatable)').argParser(pairs))
    .addOption(new Option('--no-map', 'take its model names away'))
    .addOption(
      new Option(
        '--price <model=in,out>',
        'USD for a million tokens, also in,out,cache write,cache read; * is any model (repeatable)',
      ).argParser(price),
    )
    .addOption(new Option('--no-price', 'count costs as the CLI does'))
}

async function wish(flags: EditFlags): Promise<Record<string, unknown>> {
  return {
    name: flags.name,
    base_url: flags.baseUrl,
    api_key: await keyOf(flags),
    weight: flags.weight,
    models: flags.anyModel ? null : flags.model,
    pools: flags.anyPool ? null : flags.pool,
    env: flags.env === false ? {} : flags.env,
    model_map: flags.map === false ? {} : flags.map,
    prices: flags.price === false ? null : flags.price,
  }
}

const some = (value: string, all: string[] = []) => o.list(value, all)
const pairs = (value: string, all: Record<string, string> = {}) => o.pair(value, all)

function price(value: string, all: Record<string, Price> = {}): Record<string, Price> {
  const [model, numbers] = Object.entries(o.pair(value, {}))[0] ?? ['', '']
  const [input, output, cacheWrite, cacheRead, ...rest] = numbers
    .split(',')
    .map((n) => (/^\d+(\.\d+)?$/.test(n) ? Number(n) : NaN))
  const known = [input, output, cacheWrite, cacheRead].filter((n) => n !== undefined)
  if (input === undefined || output === undefined || rest.length > 0 || known.some(Number.isNaN))
    throw new InvalidArgumentError('must look like opus=15,75 or opus=15,75,18.75,1.5')
  return {
    ...all,
    [model]: {
      input,
      output,
      ...(cacheWrite === undefined ? {} : { cache_write: cacheWrite }),
      ...(cacheRead === undefined ? {} : { cache_read: cacheRead }),
    },
  }
}

function stateOf({ enabled, health }: Provider): string {
  if (!enabled) return 'disabled'
  if (health.state === 'open') return `open${health.reason ? ` (${health.reason})` : ''}`
  return health.models.length > 0
    ? `${health.state}, but ${health.models.length} model${health.models.length === 1 ? '' : 's'}`
    : health.state
}

const latency = ({ health }: Provider) => (health.latency_ms === null ? null : `${health.latency_ms} ms`)

function describe(p: Provider): void {
  const { health } = p
  facts([
    ['id', p.id],
    ['name', p.name],
    ['base url', p.base_url],
    ['key', p.key && `…${p.key.last4}, fingerprint ${p.key.fingerprint}, version ${p.version}`],
    ['weight', p.weight],
    ['enabled', p.enabled],
    ['models', p.models?.join(', ') ?? 'any'],
    ['pools', p.pools?.join(', ') ?? 'every one'],
    ...Object.entries(p.model_map).map(([from, to]) => [`model ${from}`, to] as const),
    ...Object.entries(p.prices ?? {}).map(
      ([model, { input, output }]) => [`price ${model}`, `$${input} in, $${output} out, a million tokens`] as const,
    ),
    ...Object.entries(p.env).map(([name, value]) => [`env ${name}`, value] as const),
    ['breaker', stateOf(p)],
    [
      'open until',
      health.state === 'open' ? (when(health.open_until) ?? `somebody acts: \`runyard provider reset ${p.id}\``) : undefined,
    ],
    ...health.models.map(({ model, state }) => [`breaker of ${model}`, state] as const),
    ['failures in a row', health.consecutive_failures],
    ['requests', `${health.requests}, ${health.failed} failed`],
    ['latency', latency(p)],
    ['bound sessions', health.bound_sessions],
    ['changed', when(p.updated_at)],
  ])
}
