/**
 * How the dialects of older servers are answered, for the whole router: which of them at all, and what their own config
 * files used to say. The shape is that of the admin API, `router.toml` and the database at once.
 */
import { z } from 'zod'
import { TenantId } from './ids.ts'
import { ModelName, ToolRule } from './run-spec.ts'
import { Narrowing } from './tenant-settings.ts'

const enabled = z.boolean().default(true)
export const DEFAULT_QUEUE_TIMEOUT_S = 30
/** How long a request waits for a slot, where its dialect does not say otherwise. */
const queue_timeout_s = z.int().min(0).max(86_400).default(DEFAULT_QUEUE_TIMEOUT_S)

const Anonymous = z.strictObject({
  tenant: TenantId,
  narrowing: Narrowing.optional(),
  /** Rules that a request may allow itself, as they are written here. Absent: none, as `Bash` there is a shell for everybody. */
  allowed_tools: z.array(ToolRule).max(64).optional(),
})

export const CompatSettings = z.strictObject({
  claudecode2api: z.strictObject({ enabled, queue_timeout_s }).default({ enabled: true, queue_timeout_s: DEFAULT_QUEUE_TIMEOUT_S }),
  ccs: z
    .strictObject({
      enabled,
      queue_timeout_s,
      /** For requests that name none; absent: what the machine takes by itself. */
      default_model: ModelName.optional(),
      default_project_path: z.string().min(1).max(4096).optional(),
      max_budget_usd: z.number().positive().max(100_000).optional(),
      timeout_s: z.int().min(1).max(86_400).default(300),
    })
    .default({ enabled: true, queue_timeout_s: DEFAULT_QUEUE_TIMEOUT_S, timeout_s: 300 }),
  claude_code_server: z
    .strictObject({ enabled, queue_timeout_s, timeout_s: z.int().min(1).max(86_400).default(900) })
    .default({ enabled: true, queue_timeout_s: DEFAULT_QUEUE_TIMEOUT_S, timeout_s: 900 }),
  claude_code_api: z
    .strictObject({
      enabled,
      queue_timeout_s,
      timeout_s: z.int().min(1).max(86_400).default(3_600),
      /** Whoever brings no token is this tenant there, within these bounds. Absent: a token is needed, as everywhere. */
      anonymous: Anonymous.optional(),
    })
    .default({ enabled: true, queue_timeout_s: DEFAULT_QUEUE_TIMEOUT_S, timeout_s: 3_600 }),
})
export type CompatSettings = z.infer<typeof CompatSettings>
export type FamilyName = keyof CompatSettings

export const DEFAULT_COMPAT: CompatSettings = CompatSettings.parse({})
