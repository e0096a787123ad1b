/**
 * What the owner of a machine allows, as its runner tells the router: the part of `runner.toml` that a run can be held
 * against. Both ends use the same check, so an early refusal reads like the runner's own; the runner's is the last word.
 */
import { z } from 'zod'
import { PermissionMode } from './run-spec.ts'

export const PolicyView = z.object({
  permission_modes: z.array(PermissionMode).max(16),
  bypass: z.boolean(),
  mcp_config: z.boolean(),
  agents: z.boolean(),
  system_prompts: z.boolean(),
  max_budget_usd: z.number().positive().optional(),
  max_timeout_s: z.int().positive().optional(),
  max_turns: z.int().positive().optional(),
  allow_private_base_urls: z.boolean(),
  sandbox: z.string().max(32),
})
export type PolicyView = z.infer<typeof PolicyView>

/** What of a run the owner of a machine may forbid; nothing of its texts. */
export const Needs = z.object({
  permission_mode: PermissionMode.optional(),
  /** Modes that agents of the run ask for. */
  agent_modes: z.array(z.string().max(64)).max(64).optional(),
  mcp_config: z.literal(true).optional(),
  agents: z.literal(true).optional(),
  system_prompts: z.literal(true).optional(),
  max_budget_usd: z.number().optional(),
  max_turns: z.number().optional(),
  timeout_s: z.number().optional(),
})
export type Needs = z.infer<typeof Needs>
