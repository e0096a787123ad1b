/**
 * Which providers a run may use, and in which order.
 *
 * No clock and no I/O: the caller passes in the turn, which all replicas count on together, and makes the claims that this
 * asks for. A disabled provider is never chosen; one whose breaker is open only when those of all others are.
 */
import { bare, meaningOf } from '../../shared/model-names.ts'
import { badness, standingOf, worst, type Breaker, type Standing } from './breaker.ts'
import { covers } from './model-names.ts'

/** What a provider's row says that matters here. */
export interface Option {
  readonly id: string
  /** Null: the machine's own login. */
  readonly baseUrl: string | null
  readonly env: Readonly<Record<string, string>>
  /** Null: any. */
  readonly models: readonly string[] | null
  readonly modelMap: Readonly<Record<string, string>>
  readonly pools: readonly string[] | null
  readonly weight: number
  readonly enabled: boolean
}

export interface Ask {
  readonly now: number
  /** Undefined: what the CLI takes by default. */
  readonly model: string | undefined
  /** The provider of its session. */
  readonly bound: string | undefined
  /** Providers whose probe somebody else has. */
  readonly taken: ReadonlySet<string>
}

/**
 * `bound`, `only`: no choice to make. `turn`: one of these, by the strategy. `probe`: this one, if its claim succeeds, else
 * ask again with it among the taken. `degraded`: all are open, and this is the least bad.
 */
export type Plan<O extends Option = Option> =
  | { readonly by: 'bound' | 'only' | 'probe' | 'degraded'; readonly first: O }
  | { readonly by: 'turn'; readonly among: readonly O[] }

/** Grants hold no more. */
export const MAX_LINE = 32

/** Those that this run may use at all, or why there are none. */
export function fitting<O extends Option>(options: readonly O[], pool: string, model: string | undefined): { ok: true; fit: O[] } | { ok: false; why: string } {
  const enabled = options.filter((o) => o.enabled)
  if (enabled.length === 0) return { ok: false, why: 'every provider is disabled' }
  const inPool = enabled.filter((o) => o.pools === null || o.pools.includes(pool))
  if (inPool.length === 0) return { ok: false, why: `no provider may be used by the pool ${pool}` }
  const fit = inPool.filter((o) => serves(o, model))
  return fit.length > 0 ? { ok: true, fit } : { ok: false, why: `no provider serves the model ${model}` }
}

/** A run that names no model is never refused: what it will ask for only the CLI knows. */
export function serves(option: Option, model: string | undefined): boolean {
  if (option.models === null || model === undefined) return true
  const names = [model, bare(model), resolved(option, model)]
  return names.some((name) => option.models?.includes(name) || Object.hasOwn(option.modelMap, name))
}

/** The name that the CLI will ask for, started with this env, as far as that can be known before. Undefined: it names none. */
function namedBy(option: Option, model: string | undefined): string | undefined {
  return model === undefined ? option.env['ANTHROPIC_MODEL'] : resolved(option, model)
}

/** The name that the provider will be asked for, as far as that can be known before the CLI has started. */
export function askedFor(option: Option, model: string | undefined): string | undefined {
  const name = namedBy(option, model)
  if (name === undefined) return undefined
  return Object.hasOwn(option.modelMap, name) ? option.modelMap[name] : name
}

/** Aliases have their meaning from the provider's env. */
function resolved(option: Option, model: string): string {
  return meaningOf(model, option.env) ?? bare(model)
}

/** Of the breakers that stand between this run and the provider. */
export function standing(option: Option, breakers: readonly Breaker[], { now, model, taken }: Omit<Ask, 'bound'>): Standing {
  const name = askedFor(option, model)
  const state = worst(breakers.filter((b) => b.provider === option.id && (b.model === '' || b.model === name)).map((b) => standingOf(b, now)))
  // Somebody tries it at this moment, so it is the soonest of all to recover.
  return state.is === 'due' && taken.has(option.id) ? { is: 'open', until: now } : state
}

/** With hundreds of providers, each with dozens of breakers, nobody may look through all of them for each. */
function standings<O extends Option>(options: readonly O[], breakers: readonly Breaker[], ask: Omit<Ask, 'bound'>): { option: O; at: Standing }[] {
  const own = new Map<string, Breaker[]>()
  for (const breaker of breakers) {
    const its = own.get(breaker.provider)
    if (its) its.push(breaker)
    else own.set(breaker.provider, [breaker])
  }
  return options.map((option) => ({ option, at: standing(option, own.get(option.id) ?? [], ask) }))
}

/** `fit`: at least one. */
export function planOf<O extends Option>(fit: readonly O[], breakers: readonly Breaker[], ask: Ask): Plan<O> {
  const stands = standings(fit, breakers, ask)
  const bound = stands.find(({ option }) => option.id === ask.bound)
  if (bound && bound.at.is === 'closed') return { by: 'bound', first: bound.option }
  const due = bound?.at.is === 'due' ? bound : stands.find(({ at }) => at.is === 'due')
  // At once, and not only when its turn comes: one run in a while pays for it that everybody else learns.
  if (due) return { by: 'probe', first: due.option }
  const closed = stands.filter(({ at }) => at.is === 'closed').map(({ option }) => option)
  const [first] = closed
  if (first) return closed.length === 1 ? { by: 'only', first } : { by: 'turn', among: closed }
  return { by: 'degraded', first: stands.reduce((a, b) => (badness(b.at) < badness(a.at) ? b : a)).option }
}

/**
 * Smooth weighted round-robin: who has the `turn`th turn, such that each comes as often as its weight says in every period,
 * and the turns of one are spread over it. A function of the turn alone, so that replicas need to share nothing else.
 */
export function smooth(weights: readonly number[], turn: number): number {
  const divisor = weights.reduce(gcd)
  const steps = weights.map((w) => w / divisor)
  const period = steps.reduce((a, b) => a + b)
  const credit = steps.map(() => 0)
  let who = 0
  for (let t = turn % period; t >= 0; t--) {
    who = 0
    for (const [i, step] of steps.entries()) {
      credit[i]! += step
      if (credit[i]! > credit[who]!) who = i
    }
    credit[who]! -= period
  }
  return who
}

const gcd = (a: number, b: number): number => (b === 0 ? a : gcd(b, a % b))

/**
 * Who is asked when `first` fails: those with its environment, which was fixed when the CLI started, or with names of models
 * that cover what the CLI will ask for; the closed ones in front. Never the machine's own login, nor anybody behind it: that
 * is not the gateway's to fail over.
 */
export function lineUp<O extends Option>(first: O, fit: readonly O[], breakers: readonly Breaker[], ask: Omit<Ask, 'bound'> & { failover: boolean; turn: number }): O[] {
  if (!ask.failover || first.baseUrl === null) return [first]
  const env = envKey(first)
  const named = namedBy(first, ask.model)
  const others = fit.filter((o) => o.id !== first.id && o.baseUrl !== null && (envKey(o) === env || knows(o, named)))
  const stands = standings(others, breakers, ask)
  const closed = stands.filter(({ at }) => at.is === 'closed').map(({ option }) => option)
  const open = stands.filter(({ at }) => at.is !== 'closed').toSorted((a, b) => badness(a.at) - badness(b.at))
  return [first, ...shuffled(someOf(closed, ask.turn), ask.turn), ...open.map(({ option }) => option)].slice(0, MAX_LINE)
}

/** Under another env the CLI would have asked for other names. Where nobody knows the name, a map that there is has to do. */
function knows({ env, modelMap, models }: Option, named: string | undefined): boolean {
  const mapped = Object.keys(modelMap)
  if (named === undefined) return mapped.length > 0
  return [...mapped, ...(models ?? [])].some((name) => covers(named, name, {})) || (models ?? []).some((name) => covers(name, named, env))
}

/** As many as there is room for, beginning with another one each turn. */
function someOf<O>(options: readonly O[], turn: number): readonly O[] {
  const room = MAX_LINE - 1
  if (options.length <= room) return options
  const from = turn % options.length
  return [...options.slice(from), ...options.slice(0, from)].slice(0, room)
}

/** By weight too, so that what fails over from one provider does not all fall on the same other. */
function shuffled<O extends Option>(options: readonly O[], turn: number): O[] {
  const left = [...options]
  const order: O[] = []
  while (left.length > 0) order.push(...left.splice(smooth(left.map((o) => o.weight), turn), 1))
  return order
}

/** These the gateway heeds for each provider by itself; the CLI does not see them. */
const NOT_THE_CLIS = new Set(['ANTHROPIC_API_KEY', 'ANTHROPIC_AUTH_TOKEN', 'ANTHROPIC_CUSTOM_HEADERS'])

function envKey(option: Option): string {
  const seen = Object.entries(option.env).filter(([name]) => !NOT_THE_CLIS.has(name))
  return JSON.stringify(seen.toSorted(([a], [b]) => (a < b ? -1 : 1)))
}
