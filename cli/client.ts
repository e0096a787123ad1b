/** How a client command reaches its router: flags, then `RUNYARD_URL` and `RUNYARD_TOKEN`, then what `runyard up` left on this machine. */
import { z } from 'zod'
import { readClientFile } from '../router/node/data-dir.ts'
import { CliError, EXIT } from './exit.ts'

export interface Client {
  readonly url: string
  fetch(path: string, init?: RequestInit): Promise<Response>
}

const Problem = z.object({ code: z.string(), detail: z.string() })

export async function openClient(options: { dataDir: string; url?: string | undefined; admin?: boolean }): Promise<Client> {
  const local = await readClientFile(options.dataDir)
  const url = (options.url ?? process.env['RUNYARD_URL'] ?? local?.url)?.replace(/\/+$/, '')
  if (!url)
    throw new CliError(EXIT.config, 'no router is known', 'start one with `runyard up`, or set RUNYARD_URL and RUNYARD_TOKEN')
  if (!URL.canParse(url)) throw new CliError(EXIT.usage, `${url} is not a URL`)
  // The token of this machine's own router is for that router only.
  const own = local?.url === url ? (options.admin ? local.admin_token : local.token) : undefined
  const token = process.env['RUNYARD_TOKEN'] ?? own
  if (!token) throw new CliError(EXIT.noPermission, `there is no token for ${url}`, 'set RUNYARD_TOKEN')
  // The runtime's own complaint about a bad header would quote it.
  if (!/^[\x21-\x7e]+$/.test(token)) throw new CliError(EXIT.usage, 'the token in RUNYARD_TOKEN has characters that no token has')
  return {
    url,
    async fetch(path, init = {}) {
      const headers = new Headers(init.headers)
      headers.set('authorization', `Bearer ${token}`)
      if (init.body !== undefined && init.body !== null) headers.set('content-type', 'application/json')
      let response: Response
      try {
        response = await fetch(url + path, { ...init, headers })
      } catch (error) {
        if (init.signal?.aborted) throw error
        throw new CliError(
          EXIT.unavailable,
          `cannot reach the router at ${url}: ${reason(error)}`,
          'is it running? `runyard up` starts one on this machine',
        )
      }
      if (response.ok) return response
      throw await refusal(response, url)
    },
  }
}

async function refusal(response: Response, url: string): Promise<CliError> {
  const problem = Problem.safeParse(await response.json().catch(() => undefined))
  if (!problem.success)
    return new CliError(EXIT.unavailable, `${url} answers with status ${response.status}, but not as a Runyard router`)
  const { code, detail } = problem.data
  const exit =
    response.status === 401 || response.status === 403
      ? EXIT.noPermission
      : response.status >= 500 || response.status === 429
        ? EXIT.unavailable
        : EXIT.failed
  return new CliError(exit, `${detail} (${code})`)
}

function reason(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const { cause } = error
  if (cause instanceof AggregateError && cause.errors[0] instanceof Error) return cause.errors[0].message
  return cause instanceof Error && cause.message ? cause.message : error.message
}
