/**
 * What an operator sets for a tenant or puts into a token, and what holds where nobody has set anything. The shapes are
 * those of the admin API, the config file and the database at once.
 */
import { z } from 'zod'
import { Name } from './ids.ts'
import { ModelName, PermissionMode } from './run-spec.ts'

const Usd = z.number().nonnegative().max(1_000_000_000)

/** How a provider is chosen, and when it is passed by. */
export const Routing = z.strictObject({
  strategy: z.enum(['round-robin', 'weighted', 'least-busy']),
  failover: z.boolean(),
  /** Consecutive failures that open the breaker of a provider. */
  failure_threshold: z.int().min(1).max(100),
  /** How long it stays open before one run may try. */
  recovery_s: z.number().min(0.1).max(86_400),
  /** A session stays with its provider for so long after its last run. */
  binding_ttl_s: z.int().min(1).max(31_536_000),
  /** How long a provider may take until its response headers. */
  headers_timeout_s: z.number().min(0.1).max(600),
})
export type Routing = z.infer<typeof Routing>
export type Strategy = Routing['strategy']

/** At most `burst` at once and `rate` a second in the long run. */
export const Rate = z.strictObject({ rate: z.number().positive().max(1_000_000), burst: z.int().min(1).max(1_000_000) })
export type Rate = z.infer<typeof Rate>

/** What a request is counted as: starting or changing something, looking, or administration. */
export const ROUTE_CLASSES = ['write', 'read', 'admin'] as const
export type RouteClass = (typeof ROUTE_CLASSES)[number]
export const Rates = z.strictObject({ write: Rate.optional(), read: Rate.optional(), admin: Rate.optional() })
export type Rates = z.infer<typeof Rates>

/** What is not set is not limited. */
export const TenantLimits = z.strictObject({
  rates: Rates.optional(),
  /** The same for each token by itself. */
  token_rates: Rates.optional(),
  /** Runs that wait or run at the same time. */
  concurrent_runs: z.int().min(0).max(1_000_000).optional(),
  /** In USD; a day is one of UTC. */
  budget: z
    .strictObject({
      total_usd: Usd.optional(),
      day_usd: Usd.optional(),
      session_usd: Usd.optional(),
      /** For each token by itself, unless it carries a budget of its own. */
      token_usd: Usd.optional(),
      /** What a run reserves that names no `max_budget_usd`. */
      run_usd: Usd.refine((usd) => usd > 0, 'must be more than 0').optional(),
    })
    .optional(),
})
export type TenantLimits = z.infer<typeof TenantLimits>

export const TenantSettings = z.strictObject({ routing: Routing.partial().optional(), limits: TenantLimits.optional() })
export type TenantSettings = z.infer<typeof TenantSettings>

/** What a token may not go beyond, besides its scopes. What is not named is not narrowed. */
export const Narrowing = z.strictObject({
  pools: z.array(Name).max(64).optional(),
  models: z.array(ModelName).max(64).optional(),
  permission_modes: z.array(PermissionMode).max(16).optional(),
  /** USD over the life of the token. */
  budget_usd: Usd.optional(),
  day_usd: Usd.optional(),
  /** The most that one run may reserve. */
  run_usd: Usd.optional(),
  rates: Rates.optional(),
})
export type Narrowing = z.infer<typeof Narrowing>

export const DEFAULT_ROUTING: Routing = {
  strategy: 'weighted',
  failover: true,
  failure_threshold: 3,
  recovery_s: 60,
  binding_ttl_s: 1_800,
  headers_timeout_s: 60,
}
/** USD that a run reserves where budgets are set and nobody says how much. */
export const DEFAULT_RUN_USD = 1

export function routingOf(settings: TenantSettings): Routing {
  return { ...DEFAULT_ROUTING, ...settings.routing }
}
