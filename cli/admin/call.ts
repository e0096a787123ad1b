/** What every admin command has: the flags that lead to a router, and requests to its admin API. */
import type { Command } from 'commander'
import { Option } from 'commander'
import { z } from 'zod'
import { openClient } from '../client.ts'
import * as o from '../options.ts'
import { out, say } from '../output.ts'
import { text } from '../table.ts'

export interface AdminFlags {
  readonly url?: string
  readonly dataDir: string
  readonly json: boolean
  readonly tenant?: string
}

/** `whose`: not for what belongs to the router as a whole. */
export function adminFlags(command: Command, whose: 'tenant' | 'router' = 'tenant'): Command {
  if (whose === 'tenant') command.addOption(new Option('--tenant <id>', 'whose, if not your own; for operators'))
  return command.addOption(o.url()).addOption(o.dataDir()).addOption(o.json())
}

export type Query = Readonly<Record<string, string | number | undefined>>

export interface Admin {
  /** `path` begins behind `/admin/v1/`. The answer, or undefined where there is none. */
  send(method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE', path: string, body?: unknown, query?: Query): Promise<unknown>
  /** The whole list, page by page; or as much of it as `limit`. */
  list<S extends z.ZodType>(item: S, path: string, query?: Query, limit?: number): Promise<z.infer<S>[]>
  /** Prints `value` as JSON, or lets `human` say it. */
  show(value: unknown, human: () => void): void
}

const Page = z.object({ data: z.array(z.unknown()), next: z.string().nullable() })
const PAGE = 100

export async function openAdmin(flags: AdminFlags): Promise<Admin> {
  const client = await openClient({ dataDir: flags.dataDir, url: flags.url, admin: true })
  const send: Admin['send'] = async (method, path, body, query = {}) => {
    const response = await client.fetch(`/admin/v1/${path}${search(query)}`, {
      method,
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    })
    return response.status === 204 ? undefined : await response.json()
  }
  return {
    send,
    async list(item, path, query = {}, limit = Infinity) {
      const all: z.infer<typeof item>[] = []
      for (let after: string | undefined; all.length < limit;) {
        const { data, next } = Page.parse(
          await send('GET', path, undefined, { ...query, after, limit: Math.min(PAGE, limit - all.length) }),
        )
        all.push(...data.map((row) => item.parse(row)))
        if (next === null) break
        after = next
      }
      return all
    },
    show: (value, human) => (flags.json ? out(JSON.stringify(value)) : human()),
  }
}

function search(query: Query): string {
  const set = Object.entries(query).flatMap(([name, value]) =>
    value === undefined ? [] : [[name, String(value)] as [string, string]],
  )
  return set.length === 0 ? '' : `?${new URLSearchParams(set).toString()}`
}

/** An id as part of a path: whatever it is, it stays one part. */
export const part = (id: string): string => encodeURIComponent(id)

/** What the router took and doubts. */
export function warn(warnings: readonly string[]): void {
  for (const warning of warnings) say(`note: ${text(warning)}`)
}
