/** The shapes of providers, in and out: those of the admin API, and of `[[providers]]` in the config file. */
import { z } from '@hono/zod-openapi'
import { LOCAL_PROVIDER, ModelMap, Prices, ProviderEnv, ProviderId } from '../../shared/grants.ts'
import { Name, TenantId } from '../../shared/ids.ts'
import { ModelName } from '../../shared/run-spec.ts'
import { BREAKER_STATES } from '../../drizzle/schema.ts'
import { BaseUrl } from './base-url.ts'

/** Fits a header. What is wrong with a key is said without quoting it. */
export const ApiKey = z
  .string()
  .min(8, 'is shorter than 8 characters')
  .max(4_096)
  .regex(/^[\x21-\x7e]+$/, 'has characters that no key has')

/** What would take the place of `api_key` and `base_url`. Blank is allowed: the gateway does not send that header then. */
const NOT_IN_ENV = ['ANTHROPIC_API_KEY', 'ANTHROPIC_AUTH_TOKEN', 'ANTHROPIC_BASE_URL']
const Env = ProviderEnv.superRefine((env, ctx) => {
  for (const name of NOT_IN_ENV) {
    if (env[name])
      ctx.addIssue({
        code: 'custom',
        path: [name],
        message: 'does not belong in env, which every tool of a run can read; use api_key and base_url',
      })
  }
})

const fields = {
  name: z.string().min(1).max(128),
  env: Env.openapi({ description: 'For the CLI and all its tools: models and timeouts, never a secret.' }),
  models: z.array(ModelName).min(1).max(128).nullable().openapi({ description: 'The models it serves; null: any.' }),
  model_map: ModelMap.describe('The model that the CLI asks for → the model that the provider is asked for.'),
  prices: Prices.nullable().openapi({
    description: 'USD for a million tokens. With it, costs are counted by the gateway and not by the CLI.',
  }),
  weight: z.int().min(1).max(10),
  enabled: z.boolean(),
  pools: z.array(Name).min(1).max(64).nullable().openapi({ description: 'Pools that may use it; null: every one.' }),
}

const isLocal = (id: string) => id === LOCAL_PROVIDER

const newProvider = z.strictObject({
  id: ProviderId.refine((id) => id !== 'demo', 'is the name of the scripted model').openapi({
    description: '`local` is the login of the machine that runs; it has neither base_url nor api_key.',
    example: 'main',
  }),
  name: fields.name.optional(),
  base_url: BaseUrl.optional(),
  api_key: ApiKey.optional(),
  env: fields.env.default({}),
  models: fields.models.default(null),
  model_map: fields.model_map.default({}),
  prices: fields.prices.default(null),
  weight: fields.weight.default(1),
  enabled: fields.enabled.default(true),
  pools: fields.pools.default(null),
})

/** Says which of the two is missing, or should be. */
export function checkParts(
  provider: { id: string; base_url?: string | undefined; api_key?: string | undefined },
  ctx: z.RefinementCtx,
): void {
  for (const part of ['base_url', 'api_key'] as const) {
    const has = provider[part] !== undefined
    if (isLocal(provider.id) && has)
      ctx.addIssue({ code: 'custom', path: [part], message: 'does not belong to `local`, which is the login of the machine' })
    if (!isLocal(provider.id) && !has) ctx.addIssue({ code: 'custom', path: [part], message: 'is missing' })
  }
}

/** For a file, where the key may be given otherwise: extend it, then `checkParts`. */
export const ProviderParts = newProvider
export const NewProvider = newProvider
  .extend({ tenant: TenantId.optional().openapi({ description: 'Your own unless given.' }) })
  .superRefine(checkParts)
export type NewProvider = z.infer<typeof newProvider>

export const ProviderPatch = z.strictObject({ ...fields, base_url: BaseUrl, api_key: ApiKey }).partial()
export type ProviderPatch = z.infer<typeof ProviderPatch>

export const Health = z
  .object({
    state: z
      .enum(BREAKER_STATES)
      .openapi({ description: 'The breaker: `open` is passed by, `half_open` is being tried by one run.' }),
    consecutive_failures: z.int(),
    open_until: z.iso.datetime().nullable().openapi({ description: 'While `open`: null means until an admin acts.' }),
    reason: z.string().nullable(),
    requests: z.int(),
    failed: z.int(),
    latency_ms: z.int().nullable().openapi({ description: 'Moving average until the response headers.' }),
    input_tokens: z.int(),
    output_tokens: z.int(),
    models: z
      .array(
        z.object({
          model: z.string(),
          state: z.enum(BREAKER_STATES),
          open_until: z.iso.datetime().nullable(),
          reason: z.string().nullable(),
        }),
      )
      .openapi({ description: 'Models that have a breaker of their own, and it is not closed.' }),
    bound_sessions: z.int(),
  })
  .openapi('ProviderHealth')

const view = {
  id: z.string(),
  tenant: z.string(),
  name: z.string(),
  base_url: z.string().nullable(),
  key: z
    .object({ last4: z.string(), fingerprint: z.string() })
    .nullable()
    .openapi({ description: 'The key itself is never shown.' }),
  env: z.record(z.string(), z.string()),
  models: z.array(z.string()).nullable(),
  model_map: z.record(z.string(), z.string()),
  prices: Prices.nullable(),
  weight: z.int(),
  enabled: z.boolean(),
  pools: z.array(z.string()).nullable(),
  version: z.int().openapi({ description: 'Raised by each new key or base URL.' }),
  created_at: z.iso.datetime(),
  updated_at: z.iso.datetime(),
}
export const ProviderView = z.object(view)
export const Provider = z.object({ ...view, health: Health }).openapi('Provider')
export const ChangedProvider = z
  .object({
    ...view,
    health: Health,
    warnings: z.array(z.string()).openapi({ description: 'What was taken, and may still not work.' }),
  })
  .openapi('ChangedProvider')
