/** What the Worker is given (wrangler.toml says what each is for), and the settings that follow from it. */
import { z } from 'zod'
import type { Keep } from '../hub/retention.ts'
import type { RouterSettings } from '../ports.ts'
import type { OutboxDO } from './outbox-object.ts'
import type { PoolDO } from './pool-object.ts'
import type { RunnerDO } from './runner-object.ts'
import type { TenantDO } from './tenant-object.ts'

export interface Env {
  readonly RUNNER: DurableObjectNamespace<RunnerDO>
  readonly POOL: DurableObjectNamespace<PoolDO>
  readonly TENANT: DurableObjectNamespace<TenantDO>
  readonly OUTBOX: DurableObjectNamespace<OutboxDO>
  /** Networks of workerd: the internet alone, and everything. On Cloudflare there is but one, and it leads nowhere private. */
  readonly WEBHOOKS_PUBLIC?: Fetcher
  readonly WEBHOOKS_PRIVATE?: Fetcher
  readonly DB?: D1Database
  readonly GATE?: RateLimit
  /** Files that belong to the pages of the router. */
  readonly ASSETS?: Fetcher
  readonly SIGNING_KEY?: string
  readonly MASTER_KEY?: string
  readonly LIBSQL_URL?: string
  readonly LIBSQL_AUTH_TOKEN?: string
  readonly PUBLIC_URL?: string
  readonly ALLOWED_HOSTS?: string
  readonly CORS_ORIGINS?: string
  readonly TIMEOUT_S?: string
  /** A subscriber that takes nothing for so long is let go. */
  readonly BLOCKED_MS?: string
  /** How often a silent stream says that it lives: a client that left is noticed at the next write. */
  readonly COMMENT_EVERY_MS?: string
  /** Events are kept this long after their run ended. */
  readonly KEEP_DAYS?: string
  /** And no more than this of all runs of one runner that have ended. */
  readonly KEEP_BYTES?: string
}

const Vars = z.object({
  PUBLIC_URL: z.union([z.literal(''), z.url({ protocol: /^https?$/ })]).default(''),
  ALLOWED_HOSTS: z.string().default(''),
  CORS_ORIGINS: z.string().default(''),
  TIMEOUT_S: z.coerce.number().int().min(1).default(600),
  COMMENT_EVERY_MS: z.coerce.number().int().min(10).default(15_000),
  BLOCKED_MS: z.coerce.number().int().min(10).default(30_000),
  KEEP_DAYS: z.coerce.number().min(0).default(30),
  KEEP_BYTES: z.coerce
    .number()
    .min(0)
    .default(5 * 1024 ** 3),
})

const DAY_MS = 86_400_000

/** Throws a sentence that names the variable. */
export function settingsOf(env: Env): RouterSettings & { keep: Keep } {
  const vars = Vars.safeParse(env)
  if (!vars.success) throw new Error(vars.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`).join('; '))
  const { PUBLIC_URL, ALLOWED_HOSTS, CORS_ORIGINS, TIMEOUT_S, COMMENT_EVERY_MS, BLOCKED_MS, KEEP_DAYS, KEEP_BYTES } = vars.data
  return {
    publicUrl: PUBLIC_URL === '' ? undefined : PUBLIC_URL,
    allowedHosts: list(ALLOWED_HOSTS).map((host) => host.toLowerCase()),
    corsOrigins: list(CORS_ORIGINS),
    timeoutS: TIMEOUT_S,
    commentEveryMs: COMMENT_EVERY_MS,
    blockedMs: BLOCKED_MS,
    keep: { ageMs: KEEP_DAYS * DAY_MS, bytes: KEEP_BYTES },
  }
}

function list(text: string): string[] {
  return text.split(',').flatMap((item) => item.trim() || [])
}
