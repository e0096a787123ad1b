/**
 * The shapes of claude-code-server. Fields that nobody knows are dropped in silence, as there; numbers and flags may be
 * written as text, which its validator took too.
 */
import { z } from '@hono/zod-openapi'
import { ConfigContent, ConfigName } from '../../../shared/config-files.ts'
import { SessionId } from '../../../shared/ids.ts'
import { CliOptions, ToolRule } from '../../../shared/run-spec.ts'
import { toolRules } from './tools.ts'

const fromText = <S extends z.ZodType>(read: (text: string) => unknown, schema: S) =>
  z.preprocess((value) => (value === null ? undefined : typeof value === 'string' ? read(value) : value), schema)

const number = (text: string) => (/^-?\d{1,9}(\.\d{1,9})?$/.test(text) ? Number(text) : text)
const flag = (text: string) => (text === 'true' ? true : text === 'false' ? false : text)
const list = z.union([z.string().max(65_536), z.array(z.string().max(512)).max(256)])
/** `null` is what some clients send for nothing. */
const orNull = <S extends z.ZodType>(schema: S) => z.preprocess((value) => value ?? undefined, schema.optional())

const Rules = z.array(ToolRule).max(256)

export const Ask = z
  .object({
    prompt: z.string().min(1).max(50_000),
    cwd: orNull(z.string().max(4_096)).openapi({ type: 'string', description: 'Inside the workspace of the runner, and relative to it; the workspace itself unless given.' }),
    stream: fromText(flag, z.boolean().optional()).openapi({ type: 'boolean' }),
    maxTurns: fromText(number, z.int().min(1).max(50).optional()).openapi({ type: 'integer', minimum: 1, maximum: 50 }),
    agent: orNull(ConfigName).openapi({ type: 'string' }),
    systemPrompt: orNull(z.string().max(50_000)).openapi({ type: 'string' }),
    model: orNull(z.enum(['sonnet', 'opus', 'haiku'])).openapi({ type: 'string', enum: ['sonnet', 'opus', 'haiku'] }),
    permissionMode: orNull(z.enum(['default', 'plan', 'auto', 'acceptEdits', 'dontAsk'])).openapi({
      type: 'string',
      enum: ['default', 'plan', 'auto', 'acceptEdits', 'dontAsk'],
      description: 'Unless given, no permissions are asked for where the token and the owner of the runner allow that.',
    }),
    allowedTools: orNull(list)
      .transform((given) => (given === undefined ? undefined : [given].flat().flatMap(toolRules)))
      .pipe(Rules.optional())
      .openapi({ anyOf: [{ type: 'string' }, { type: 'array', items: { type: 'string' } }] }),
    resume: orNull(SessionId).openapi({ type: 'string' }),
    jsonSchema: orNull(CliOptions.shape.json_schema.unwrap()).openapi({ type: 'object', additionalProperties: true }),
  })
  .openapi('AskRequest')
export type Ask = z.infer<typeof Ask>

/** What the CLI says at its end, and whatever else it says there. */
export const CliResult = z.looseObject({ type: z.literal('result') }).openapi('CliResult')

export const ConfigParams = z.object({ name: ConfigName })
export const ConfigPage = z.object({
  limit: fromText(number, z.int().min(1).max(200).default(50)).openapi({ type: 'integer', minimum: 1, maximum: 200, default: 50 }),
  offset: fromText(number, z.int().min(0).max(1_000_000).default(0)).openapi({ type: 'integer', minimum: 0, default: 0 }),
})
export const ConfigBody = z.object({ content: ConfigContent })
export const ConfigFileView = z.object({ name: z.string(), content: z.string() })
export const ConfigContentView = z.object({ content: z.string() })
export const ConfigNamed = z.object({ name: z.string() })
export const ConfigUpdated = z.object({ updated: z.literal(true) })

export const ConfigList = z
  .object({
    items: z.array(z.object({ name: z.string(), description: z.string().nullable() })),
    count: z.int(),
    total: z.int(),
    limit: z.int(),
    offset: z.int(),
  })
  .openapi('ConfigFileList')

export const Refusal = z.object({ error: z.object({ code: z.string(), message: z.string(), requestId: z.string() }) }).openapi('ClaudeCodeServerError')
