/**
 * Who pays for a run, by the offer and by what this machine has: providers of the router, or the machine's own login.
 * Keys go to the gateway and nowhere else; what of a provider reaches the CLI is `providerEnv`.
 *
 * A login file and `CLAUDE_CODE_OAUTH_TOKEN` are the CLI's own business, which renews them: with these it goes its own way.
 */
import type { CryptoKey } from 'jose'
import { Fault } from '../shared/faults.ts'
import type { LocalProvider, Offer } from '../shared/frames.ts'
import type { Grant, Grants } from '../shared/grants.ts'
import { urlProblem } from './gateway/addresses.ts'
import { mayAsk } from './gateway/allowed.ts'
import { customHeaders } from './gateway/headers.ts'
import type { Payer, Purse } from './gateway/purse.ts'
import type { LocalLogin } from './login.ts'
import { providerEnv } from './provider-env.ts'
import { openKey } from './sealed-key.ts'

export interface Treasury {
  readonly provider: LocalProvider | null
  readonly login: LocalLogin
  readonly sealingKey: CryptoKey
  readonly allowPrivateBaseUrls: boolean
  log(message: string, fields: Record<string, unknown>): void
}

type Env = Readonly<Record<string, string>>

export type Funds =
  /** The CLI finds its login by itself, in `env` or in the file. */
  | { readonly kind: 'direct'; readonly provider: string; readonly env?: Env; readonly credentialsFile?: string }
  | {
      readonly kind: 'gateway'
      readonly provider: string
      readonly purse: Purse
      /** Those of the purse, for what the router says of their health. */
      readonly grants: readonly Grant[]
      /** For the CLI, besides its seat. */
      readonly env: Env
      readonly retries?: number
    }

const NOBODY = 'this machine has no login of its own, and the router gave it no provider'
const FIRST_PARTY = 'https://api.anthropic.com'
/** The CLI waits for headers for five minutes; with one payer there is nobody to turn to before. */
const OWN_TIMEOUT_MS = 600_000
/** After five minutes of silence the CLI asks anew, and is billed again: this has to be less. */
const STALL_MS = 280_000
/** For what the gateway does besides waiting. */
const TIMEOUT_SLACK_MS = 30_000

/** Throws `unknown_provider`, or `policy` when the owner forbids the address of every provider that could be used. */
export async function fundsFor(offer: Offer, treasury: Treasury): Promise<Funds> {
  const { grants } = offer
  const first = grants?.providers[0]
  if (!grants || !first) return own(offer, treasury, offer.spec.models ?? null, true)
  if (!first.api) {
    const login = own(offer, treasury, first.models, false)
    if (login) return login
  }
  return granted(offer, grants, treasury)
}

/** Where the CLI goes its own way, nobody holds it to `models`. */
function own(offer: Offer, treasury: Treasury, models: Grant['models'], required: true): Funds
function own(offer: Offer, treasury: Treasury, models: Grant['models'], required: false): Funds | undefined
function own(offer: Offer, { login, provider }: Treasury, models: Grant['models'], required: boolean): Funds | undefined {
  if (login.kind === 'none' || provider === null) {
    if (!required) return undefined
    throw new Fault('unknown_provider', NOBODY)
  }
  if (login.kind === 'login') return { kind: 'direct', provider, credentialsFile: login.credentialsFile }
  const { env, credentialsFile } = login
  const payer = payerOfLogin(provider, env, models)
  if (!payer) return { kind: 'direct', provider, env, ...(credentialsFile === undefined ? {} : { credentialsFile }) }
  return { kind: 'gateway', provider, purse: purseOf(offer, [payer], OWN_TIMEOUT_MS), grants: [], env: {} }
}

/** Undefined without a key of its own; its address is the owner's choice. */
function payerOfLogin(provider: string, env: Env, models: Grant['models']): Payer | undefined {
  const { ANTHROPIC_API_KEY: key, ANTHROPIC_AUTH_TOKEN: bearer, ANTHROPIC_BASE_URL: base = FIRST_PARTY } = env
  if ((key === undefined && bearer === undefined) || !URL.canParse(base)) return undefined
  const custom = customHeaders(env['ANTHROPIC_CUSTOM_HEADERS'] ?? '')
  const headers = { ...custom }
  if (key !== undefined) headers['x-api-key'] = key
  if (bearer !== undefined) headers['authorization'] = `Bearer ${bearer}`
  return {
    provider,
    version: 1,
    mayAsk: mayAsk(models, env),
    baseUrl: new URL(base),
    headers,
    secrets: [key, bearer, ...Object.values(custom)].filter((value) => value !== undefined && value.length >= 8).map(String),
    modelMap: {},
    mayBePrivate: true,
  }
}

async function granted(offer: Offer, grants: Grants, treasury: Treasury): Promise<Funds> {
  const usable: { grant: Grant; payer: Payer }[] = []
  const faults: Fault[] = []
  // The others are there because they serve a CLI with the environment of the first, even when that one is left out here.
  const cliEnv = grants.providers.find(({ api }) => api)?.env ?? {}
  for (const grant of grants.providers) {
    if (!grant.api) continue
    const baseUrl = new URL(grant.api.base_url)
    const fault = faultOf(grant.provider, baseUrl, treasury)
    if (fault) {
      faults.push(fault)
      treasury.log('a provider is left out of a run', { run: offer.run, provider: grant.provider, why: fault.message })
      continue
    }
    usable.push({ grant, payer: await payerOf(offer.run, { ...grant, api: grant.api }, baseUrl, cliEnv, treasury) })
  }
  const [chosen, ...others] = usable
  if (!chosen) throw faults.find(({ code }) => code === 'policy') ?? faults[0] ?? new Fault('unknown_provider', NOBODY)
  const { env, ignored } = providerEnv(cliEnv)
  const { provider } = chosen.grant
  if (ignored.length > 0) treasury.log('variables of a provider are not let in', { run: offer.run, provider, ignored })
  const payers: Purse['payers'] = [chosen.payer, ...others.map(({ payer }) => payer)]
  const account = { failureThreshold: grants.failure_threshold, recoveryMs: grants.recovery_ms }
  const timeoutMs = grants.headers_timeout_ms * usable.length + TIMEOUT_SLACK_MS
  const asked = Number(env['API_TIMEOUT_MS'])
  return {
    kind: 'gateway',
    provider,
    purse: { ...purseOf(offer, payers, grants.headers_timeout_ms), account },
    grants: usable.map(({ grant }) => grant),
    env: {
      ...env,
      // The CLI must not give up while the gateway still has somebody to ask.
      API_TIMEOUT_MS: String(Number.isSafeInteger(asked) && asked > timeoutMs ? asked : timeoutMs),
    },
    // By then the gateway has asked everybody already.
    retries: 1,
  }
}

/** Why this machine does not go to an address; `policy` where its owner could allow it. */
function faultOf(provider: string, baseUrl: URL, { allowPrivateBaseUrls }: Treasury): Fault | undefined {
  const problem = urlProblem(baseUrl, allowPrivateBaseUrls)
  if (problem === undefined) return undefined
  const message = `the base URL of provider ${provider} ${problem}`
  if (urlProblem(baseUrl, true) !== undefined) return new Fault('unknown_provider', message)
  const field = 'allow_private_base_urls'
  return new Fault('policy', `${message}; ${field} is not set on this machine`, { extra: { field } })
}

type Remote = Grant & { readonly api: NonNullable<Grant['api']> }

async function payerOf(run: string, grant: Remote, baseUrl: URL, cliEnv: Env, treasury: Treasury): Promise<Payer> {
  const key = await openKey(grant.api.sealed_key, treasury.sealingKey, { run, provider: grant.provider })
  return {
    provider: grant.provider,
    version: grant.version,
    mayAsk: mayAsk(grant.models, cliEnv),
    baseUrl,
    headers: payerHeaders(baseUrl, key, grant.env),
    secrets: [key],
    modelMap: grant.model_map,
    prices: grant.prices,
    mayBePrivate: treasury.allowPrivateBaseUrls,
  }
}

/**
 * The key under both of the names that the CLI knows, as if `ANTHROPIC_API_KEY` and `ANTHROPIC_AUTH_TOKEN` were set to it.
 * A provider's env takes one of them away by setting it to the empty string. Anthropic's own API wants keys in `x-api-key`
 * and takes what is in `authorization` for an OAuth token.
 */
export function payerHeaders(baseUrl: URL, key: string, env: Env): Record<string, string> {
  const noKey = env['ANTHROPIC_API_KEY'] === ''
  const noBearer = env['ANTHROPIC_AUTH_TOKEN'] === '' || (!noKey && /(?:^|\.)anthropic\.com$/.test(baseUrl.hostname))
  return {
    ...customHeaders(env['ANTHROPIC_CUSTOM_HEADERS'] ?? ''),
    ...(noKey ? {} : { 'x-api-key': key }),
    ...(noBearer ? {} : { authorization: `Bearer ${key}` }),
  }
}

function purseOf({ run, fence, spec }: Offer, payers: Purse['payers'], headersTimeoutMs: number): Purse {
  const times = { headersTimeoutMs, stallMs: STALL_MS }
  return { run, fence, tenant: spec.tenant, session: spec.session.id, payers, ...times, maxBudgetUsd: spec.max_budget_usd }
}
