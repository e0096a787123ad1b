/**
 * `runyard limits …` and `runyard routing …`: what a tenant may use, and how its providers are chosen. Only what is named is
 * changed.
 */
import { InvalidArgumentError, Option, type Command } from 'commander'
import { z } from 'zod'
import { Routing, TenantLimits } from '../../shared/tenant-settings.ts'
import * as o from '../options.ts'
import { facts, table, usd, type Cell } from '../table.ts'
import { adminFlags, openAdmin, type Admin, type AdminFlags } from './call.ts'

const Spent = z.looseObject({ spent_usd: z.number(), reserved_usd: z.number() })
const Usage = z.looseObject({ total: Spent.optional(), day: Spent.optional(), runs: z.number().optional() })
const Limits = z.looseObject({ tenant: z.string(), limits: TenantLimits, usage: Usage })
const TenantRouting = z.looseObject({ tenant: z.string(), routing: Routing, set: Routing.partial() })

/** `none` takes a setting away. */
const NONE = 'none'
type Setting<T> = T | typeof NONE

export function limitsCommands(program: Command): void {
  const limits = program.command('limits').description('what a tenant may use, and what it has used')
  adminFlags(limits.command('show').description('the limits, and what is used of them')).action(async (flags: AdminFlags) => {
    const admin = await openAdmin(flags)
    showLimits(admin, await readLimits(admin, flags))
  })
  const set = adminFlags(limits.command('set').description('set limits; what is not named stays, `none` takes one away'))
  for (const [name, what] of Object.entries(BUDGETS))
    set.addOption(new Option(`--${name} <usd|none>`, what).argParser(orNone(dollars)))
  set
    .addOption(
      new Option('--concurrent <n|none>', 'runs that wait or run at the same time').argParser(orNone(o.integer(0, 1_000_000))),
    )
    .addOption(
      new Option('--rate <class=n/s:burst>', 'of all its tokens: write=5/s:20, read, admin; write=none (repeatable)').argParser(
        rates,
      ),
    )
    .addOption(new Option('--token-rate <class=n/s:burst>', 'the same for each token by itself (repeatable)').argParser(rates))
    .action(async (flags: LimitFlags) => {
      const admin = await openAdmin(flags)
      const { limits: now } = await readLimits(admin, flags)
      await admin.send('PUT', 'limits', changed(now, flags), { tenant: flags.tenant })
      showLimits(admin, await readLimits(admin, flags))
    })
}

const BUDGETS = {
  total: 'budget over all time',
  day: 'budget of a day (UTC)',
  session: 'budget of each session',
  token: 'budget of each token that has none of its own',
  run: 'what a run reserves that names no budget',
} as const
type Rates = Partial<Record<string, Setting<{ rate: number; burst: number }>>>
type LimitFlags = AdminFlags & { readonly [B in keyof typeof BUDGETS]?: Setting<number> } & {
  readonly concurrent?: Setting<number>
  readonly rate?: Rates
  readonly tokenRate?: Rates
}

/** What holds now with what the flags say of it. */
function changed(now: TenantLimits, flags: LimitFlags): Record<string, unknown> {
  const budget = without(
    {
      ...now.budget,
      ...Object.fromEntries(Object.keys(BUDGETS).map((name) => [`${name}_usd`, flags[name as keyof typeof BUDGETS]])),
    },
    now.budget,
  )
  const rate = without({ ...now.rates, ...flags.rate }, now.rates)
  const tokenRate = without({ ...now.token_rates, ...flags.tokenRate }, now.token_rates)
  return without(
    { rates: rate, token_rates: tokenRate, concurrent_runs: flags.concurrent, budget },
    { concurrent_runs: now.concurrent_runs },
  )
}

/** Settings that are undefined fall back to `before`; those that are `none`, or hold nothing, are left out. */
function without(settings: object, before: object | undefined): Record<string, unknown> {
  const all = Object.entries(settings).map(
    ([name, value]) => [name, value === undefined ? (before as Record<string, unknown> | undefined)?.[name] : value] as const,
  )
  return Object.fromEntries(
    all.filter(
      ([, value]) =>
        value !== undefined && value !== NONE && !(typeof value === 'object' && Object.keys(value as object).length === 0),
    ),
  )
}

const readLimits = async (admin: Admin, flags: AdminFlags) =>
  Limits.parse(await admin.send('GET', 'limits', undefined, { tenant: flags.tenant }))

function showLimits(admin: Admin, answer: z.infer<typeof Limits>): void {
  const { limits, usage } = answer
  const { budget } = limits
  const money = (amount: number | undefined) => (amount === undefined ? 'no limit' : usd(amount))
  const used = (of: z.infer<typeof Spent> | undefined) =>
    of === undefined ? null : `${usd(of.spent_usd)} spent, ${usd(of.reserved_usd)} reserved`
  const rows: Cell[][] = [
    ['budget', money(budget?.total_usd), used(usage.total)],
    ['budget of a day', money(budget?.day_usd), used(usage.day)],
    ['budget of a session', money(budget?.session_usd)],
    ['budget of a token', money(budget?.token_usd)],
    ['reserved by a run', budget?.run_usd === undefined ? 'the default' : usd(budget.run_usd)],
    ['runs at once', limits.concurrent_runs ?? 'no limit', usage.runs === undefined ? null : `${usage.runs} now`],
  ]
  for (const [name, set] of [
    ['all tokens', limits.rates],
    ['each token', limits.token_rates],
  ] as const) {
    for (const [of, { rate, burst }] of Object.entries(set ?? {})) rows.push([`${of} of ${name}`, `${rate}/s, ${burst} at once`])
  }
  admin.show(answer, () => table(['LIMIT', 'SET TO', 'USED'], rows, ''))
}

export function routingCommands(program: Command): void {
  const routing = program.command('routing').description('how a provider is chosen, and when it is passed by')
  adminFlags(routing.command('show').description('what holds')).action(async (flags: AdminFlags) => {
    const admin = await openAdmin(flags)
    showRouting(admin, TenantRouting.parse(await admin.send('GET', 'routing', undefined, { tenant: flags.tenant })))
  })
  adminFlags(routing.command('set').description('change it; what is not named stays, `none` is the default again'))
    .addOption(new Option('--strategy <how>', 'how the next one is found').choices([...Routing.shape.strategy.options, NONE]))
    .addOption(new Option('--failover <on|off>', 'whether a run goes on with another one').choices(['on', 'off', NONE]))
    .addOption(new Option('--threshold <n>', 'failures in a row that open a breaker').argParser(orNone(o.integer(1, 100))))
    .addOption(new Option('--recovery <duration>', 'how long a breaker stays open').argParser(orNone(o.duration)))
    .addOption(new Option('--binding-ttl <duration>', 'how long a session stays with its provider').argParser(orNone(o.duration)))
    .addOption(new Option('--headers-timeout <duration>', 'how long a provider may take to answer').argParser(orNone(o.duration)))
    .action(async (flags: RoutingFlags) => {
      const admin = await openAdmin(flags)
      const { set } = TenantRouting.parse(await admin.send('GET', 'routing', undefined, { tenant: flags.tenant }))
      const wish = {
        strategy: flags.strategy,
        failover: flags.failover === 'on' ? true : flags.failover === 'off' ? false : flags.failover,
        failure_threshold: flags.threshold,
        recovery_s: flags.recovery,
        binding_ttl_s: flags.bindingTtl,
        headers_timeout_s: flags.headersTimeout,
      }
      showRouting(admin, TenantRouting.parse(await admin.send('PUT', 'routing', without(wish, set), { tenant: flags.tenant })))
    })
}

type RoutingFlags = AdminFlags & {
  readonly strategy?: string
  readonly failover?: 'on' | 'off' | typeof NONE
  readonly threshold?: Setting<number>
  readonly recovery?: Setting<number>
  readonly bindingTtl?: Setting<number>
  readonly headersTimeout?: Setting<number>
}

function showRouting(admin: Admin, answer: z.infer<typeof TenantRouting>): void {
  const { routing: r } = answer
  admin.show(answer, () =>
    facts([
      ['strategy', r.strategy],
      ['failover', r.failover ? 'on' : 'off'],
      ['breaker opens after', `${r.failure_threshold} failures in a row`],
      ['and stays open for', `${r.recovery_s} s`],
      ['a session stays for', `${r.binding_ttl_s} s`],
      ['an answer begins within', `${r.headers_timeout_s} s`],
    ]),
  )
}

const orNone =
  <T>(parse: (text: string) => T) =>
  (text: string): Setting<T> =>
    text === NONE ? NONE : parse(text)

/** `10` or `2.50`, in USD. */
export function dollars(text: string): number {
  if (!/^\d{1,9}(\.\d{1,6})?$/.test(text)) throw new InvalidArgumentError('must be an amount in USD such as 10 or 2.50')
  return Number(text)
}

/** `write=5/s:20` or `write=5:20`: five a second in the long run, twenty at once. */
export function rates(text: string, all: Rates = {}): Rates {
  const match = /^(write|read|admin)=(?:none|(\d{1,7}(?:\.\d{1,3})?)(?:\/s)?:(\d{1,7}))$/.exec(text)
  if (!match)
    throw new InvalidArgumentError(
      'must look like write=5/s:20 (five a second, twenty at once) or write=none; classes are write, read and admin',
    )
  return { ...all, [match[1] ?? '']: match[2] === undefined ? NONE : { rate: Number(match[2]), burst: Number(match[3]) } }
}
