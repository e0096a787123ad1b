/** What the Worker is given (wrangler.toml says what each is for), and the settings that follow from it. */
import { z } from 'zod'
import type { RouterSettings } from '../ports.ts'
import type { PoolDO } from './pool-object.ts'
import type { RunnerDO } from './runner-object.ts'

export interface Env {
  readonly RUNNER: DurableObjectNamespace<RunnerDO>
  readonly POOL: DurableObjectNamespace<PoolDO>
  readonly DB?: D1Database
  readonly GATE?: RateLimit
  readonly SIGNING_KEY?: string
  readonly LIBSQL_URL?: string
  readonly LIBSQL_AUTH_TOKEN?: string
  readonly PUBLIC_URL?: string
  readonly ALLOWED_HOSTS?: string
  readonly CORS_ORIGINS?: string
  readonly TIMEOUT_S?: string
  /** How often a silent stream says that it lives: a client that left is noticed at the next write. */
  readonly COMMENT_EVERY_MS?: string
  /** Events are kept this long after their run ended. */
  readonly KEEP_DAYS?: string
}

const Vars = z.object({
  PUBLIC_URL: z.union([z.literal(''), z.url({ protocol: /^https?$/ })]).default(''),
  ALLOWED_HOSTS: z.string().default(''),
  CORS_ORIGINS: z.string().default(''),
  TIMEOUT_S: z.coerce.number().int().min(1).default(600),
  COMMENT_EVERY_MS: z.coerce.number().int().min(10).default(15_000),
  KEEP_DAYS: z.coerce.number().positive().default(30),
})

export const DAY_MS = 86_400_000

/** Throws a sentence that names the variable. */
export function settingsOf(env: Env): RouterSettings & { keepMs: number } {
  const vars = Vars.safeParse(env)
  if (!vars.success) throw new Error(vars.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`).join('; '))
  const { PUBLIC_URL, ALLOWED_HOSTS, CORS_ORIGINS, TIMEOUT_S, COMMENT_EVERY_MS, KEEP_DAYS } = vars.data
  return {
    publicUrl: PUBLIC_URL === '' ? undefined : PUBLIC_URL,
    allowedHosts: list(ALLOWED_HOSTS).map((host) => host.toLowerCase()),
    corsOrigins: list(CORS_ORIGINS),
    timeoutS: TIMEOUT_S,
    commentEveryMs: COMMENT_EVERY_MS,
    keepMs: KEEP_DAYS * DAY_MS,
  }
}

function list(text: string): string[] {
  return text.split(',').flatMap((item) => item.trim() || [])
}
