/**
 * What one run may use of which providers, in order, as the router tells its runner; and what the runner's gateway tells
 * back. A key travels sealed to the runner's own public key and to one run, so a message that leaks gives nothing away.
 */
import { z } from 'zod'
import { CostUsd, TokenCount } from './amounts.ts'
import { RunId } from './ids.ts'
import { ModelName } from './run-spec.ts'

/** `local` is the machine's own login, `demo` the scripted model; neither has a base URL or a key here. */
export const LOCAL_PROVIDER = 'local'
export const ProviderId = z.string().regex(/^[a-z0-9][a-z0-9_-]{0,62}$/, 'must be 1 to 63 lower-case letters, digits, - or _')

const MAX_ENV_CHARS = 16_384

/** Reaches the CLI and every tool that a model runs, so a secret has no place in it. */
export const ProviderEnv = z
  .record(
    z.string().regex(/^[A-Za-z_][A-Za-z0-9_]{0,127}$/, 'is not the name of an environment variable'),
    z.string().max(4_096).refine((value) => !value.includes('\0'), 'must not hold a NUL'),
  )
  .refine((env) => Object.keys(env).length <= 64, 'has more than 64 entries')
  // A grant has many providers, and an offer has to fit into one message.
  .refine((env) => JSON.stringify(env).length <= MAX_ENV_CHARS, 'is larger than 16 KiB')

/** The model that the CLI asks for → the model that the provider is asked for. */
export const ModelMap = z.record(ModelName, ModelName).refine((map) => Object.keys(map).length <= 64, 'has more than 64 entries')

/** USD for a million tokens. */
export const Price = z.strictObject({
  input: z.number().nonnegative().max(1_000_000),
  output: z.number().nonnegative().max(1_000_000),
  cache_write: z.number().nonnegative().max(1_000_000).optional(),
  cache_read: z.number().nonnegative().max(1_000_000).optional(),
})
export type Price = z.infer<typeof Price>
/** By the model that the provider is asked for; `*` is every other one. */
export const Prices = z
  .record(z.union([ModelName, z.literal('*')]), Price)
  .refine((prices) => Object.keys(prices).length <= 128, 'has more than 128 entries')
export type Prices = z.infer<typeof Prices>

/** Seals a key to one run: the `typ` of the JWE, whose protected header also names provider and run. */
export const SEALED_KEY_TYP = 'runyard-key'

export const Grant = z.object({
  provider: ProviderId,
  /** Of its key and base URL: what is said of an older one says nothing of this one. */
  version: z.int().positive(),
  /** What the run may ask it for, by the name that the CLI uses; null: any model. */
  models: z.array(ModelName).max(256).nullable(),
  /** Absent for `local`: the machine's own login, where it has one. */
  api: z
    .object({
      base_url: z.url({ protocol: /^https?$/ }).max(2_048),
      /** Compact JWE: ECDH-ES + A256GCM to the runner's P-256 key, `typ` runyard-key, protected header `run` and `provider`. */
      sealed_key: z.string().min(1).max(16_384),
    })
    .optional(),
  env: ProviderEnv,
  model_map: ModelMap,
  prices: Prices.optional(),
  /** Its breaker is open for so long, for the whole provider or for some models; null: until an admin acts. */
  open_ms: z.number().nonnegative().nullable().optional(),
  open_models: z.record(ModelName, z.number().nonnegative().nullable()).optional(),
})
export type Grant = z.infer<typeof Grant>

/** `providers[0]` is the one that was chosen. Those behind it have its env, or a `model_map`. */
export const Grants = z.object({
  providers: z.array(Grant).min(1).max(32),
  /** How long a provider may take until its response headers. */
  headers_timeout_ms: z.int().min(100).max(600_000),
  /** Consecutive failures after which the gateway passes a provider by on its own account, and for how long. */
  failure_threshold: z.int().min(1).max(100),
  recovery_ms: z.int().min(100).max(86_400_000),
})
export type Grants = z.infer<typeof Grants>

/**
 * How one request to a provider ended, by who is to blame. `ok`: it answered, or the caller was told of a mistake of his
 * own (400, 413 and the like). Nobody is blamed for `cancelled`.
 */
export const Outcome = z.enum(['ok', 'caller', 'cancelled', 'auth', 'forbidden', 'not_found', 'rate_limited', 'overloaded', 'server', 'unreachable', 'timeout', 'refused_url'])
export type Outcome = z.infer<typeof Outcome>

export const Tokens = z.object({
  input_tokens: TokenCount,
  output_tokens: TokenCount,
  cache_creation_input_tokens: TokenCount,
  cache_read_input_tokens: TokenCount,
})
export type Tokens = z.infer<typeof Tokens>

/**
 * One request of the gateway. `headers`: a good answer has begun, which is all that a breaker wants to know; `end`: it is
 * over, and counts. One that never had good headers has an `end` only.
 */
export const ProviderReport = z.object({
  run: RunId,
  fence: z.int().positive(),
  stage: z.enum(['headers', 'end']),
  provider: ProviderId,
  /** Of its grant. */
  version: z.int().positive(),
  /** As the provider was asked for it. */
  model: z.string().max(128).nullable(),
  outcome: Outcome,
  status: z.int().min(100).max(599).nullable(),
  retry_after_ms: z.number().nonnegative().nullable(),
  /** Until the response headers; null when there were none. */
  latency_ms: z.number().nonnegative().nullable(),
  tokens: Tokens.nullable(),
})
export type ProviderReport = z.infer<typeof ProviderReport>

/** What the gateway counted of a run. `cost_usd`: by the price list, null when some of it has no price. */
export const Metered = z.object({
  requests: z.int().nonnegative(),
  tokens: Tokens,
  cost_usd: CostUsd.nullable(),
  /** What of it is known when `cost_usd` is not: nothing less was spent. */
  known_usd: CostUsd,
  /** The one that answered last; null when none did. */
  provider: ProviderId.nullable(),
  /** Requests that another provider answered than the first one asked. */
  failovers: z.int().nonnegative(),
})
export type Metered = z.infer<typeof Metered>
