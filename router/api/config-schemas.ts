/** The native shapes of config files, in and out. */
import { z } from '@hono/zod-openapi'
import { ConfigContent, ConfigKind, ConfigName, MAX_CONFIG_NAME_CHARS, type ConfigFile } from '../../shared/config-files.ts'
import { Name } from '../../shared/ids.ts'

/** Its kind and name, as in `agents.reviewer`; there is one `claude-md`. */
export const FileId = z
  .string()
  .max('agents.'.length + MAX_CONFIG_NAME_CHARS)
  .regex(/^(?:claude-md|(?:agents|skills|rules)\.[a-z0-9]+(?:-[a-z0-9]+)*)$/, 'must be claude-md, or agents., skills. or rules. and a name')
  // The prefixes are not equally long.
  .refine((id) => id.length - id.indexOf('.') - 1 <= MAX_CONFIG_NAME_CHARS, `its name has more than ${MAX_CONFIG_NAME_CHARS} characters`)
  .openapi({ example: 'agents.reviewer' })

export const PoolQuery = z.strictObject({
  pool: Name.optional().openapi({ description: '`default` unless given, or the first that the token is good for.' }),
})
export const ListQuery = PoolQuery.extend({ kind: ConfigKind.optional() }).strict()
export const IfMatch = z.object({
  'if-match': z
    .string()
    .regex(/^"\d{1,15}"$/, 'must be one version in quotes')
    .optional()
    .openapi({ description: 'Only if it is still that version: its `ETag`.' }),
})
export const Content = z.strictObject({ content: ConfigContent }).openapi('ConfigContent')

const entry = {
  id: FileId,
  kind: ConfigKind,
  name: z.union([ConfigName, z.literal('')]),
  version: z.int().openapi({ description: 'Another one after each change.' }),
  updated_at: z.iso.datetime(),
}
export const Entry = z
  .object({ ...entry, description: z.string().nullable().openapi({ description: 'The line of its front matter.' }), chars: z.int() })
  .openapi('ConfigEntry')
export const File = z.object({ ...entry, content: z.string(), updated_by: z.string(), created_at: z.iso.datetime() }).openapi('ConfigFile')
export const Written = z.object({ id: FileId, pool: Name, version: z.int() }).openapi('ConfigWritten')
export const ConfigSet = z
  .object({
    pool: Name,
    version: z.int().openapi({ description: 'Raised by every change of any file; 0: there was none.' }),
    data: z.array(Entry),
    runners: z
      .array(
        z.object({
          id: z.string(),
          name: z.string(),
          version: z.int().nullable().openapi({ description: 'What it has; null: it is not connected, or has not said.' }),
          error: z.string().nullable().openapi({ description: 'Why not all of it is in use there.' }),
        }),
      )
      .openapi({ description: 'The machines of the pool.' }),
    next: z.null(),
  })
  .openapi('ConfigSet')

type Ref = Pick<ConfigFile, 'kind' | 'name'>

export const idOf = ({ kind, name }: Ref): string => (kind === 'claude-md' ? kind : `${kind}.${name}`)

/** Of a valid id. */
export function refOf(id: string): Ref {
  const dot = id.indexOf('.')
  return dot < 0 ? { kind: 'claude-md', name: '' } : { kind: ConfigKind.parse(id.slice(0, dot)), name: id.slice(dot + 1) }
}
