/**
 * What of wrangler.toml matters outside of Cloudflare. Whatever else stands there is for `wrangler deploy`: rate limits
 * above all, for which workerd has no binding of its own, so that a Worker must do without one.
 */
import { readFile } from 'node:fs/promises'
import { parse } from 'smol-toml'
import { z } from 'zod'

const Binding = z.object({ name: z.string().min(1), class_name: z.string().min(1) })

export const Wrangler = z.object({
  main: z.string().min(1),
  compatibility_date: z.iso.date(),
  compatibility_flags: z.array(z.string()).default([]),
  vars: z.record(z.string(), z.json()).default({}),
  durable_objects: z.object({ bindings: z.array(Binding) }).default({ bindings: [] }),
  migrations: z.array(z.object({ new_sqlite_classes: z.array(z.string().min(1)).default([]) })).default([]),
  d1_databases: z.array(z.object({ binding: z.string().min(1), database_id: z.string().min(1) })).default([]),
  /** `directory` from where the file is. */
  assets: z.object({ directory: z.string().min(1), binding: z.string().min(1) }).optional(),
  triggers: z.object({ crons: z.array(z.string()).default([]) }).default({ crons: [] }),
})
export type Wrangler = z.infer<typeof Wrangler>

/** Throws a sentence that names the file when it cannot be understood. */
export async function readWrangler(path: string): Promise<Wrangler> {
  const text = await readFile(path, 'utf8')
  try {
    return Wrangler.parse(parse(text))
  } catch (error) {
    const why = error instanceof z.ZodError ? z.prettifyError(error) : error instanceof Error ? error.message : String(error)
    throw new Error(`${path} cannot be used: ${why}`, { cause: error })
  }
}

/** Minutes between two runs of a cron entry; undefined for a form that only Cloudflare follows. */
export function cronMinutes(cron: string): number | undefined {
  const minutes = Number(/^\*\/(\d{1,2}) \* \* \* \*$/.exec(cron)?.[1] ?? (cron === '* * * * *' ? 1 : Number.NaN))
  return minutes >= 1 && minutes < 60 ? minutes : undefined
}
