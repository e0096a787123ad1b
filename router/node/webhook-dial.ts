/**
 * Webhooks over the network of this machine. A name is resolved once, every address that it has is looked at, and one of
 * these is connected to, so that no second answer can differ. No proxy, no redirect.
 */
import { lookup as systemLookup, type LookupAddress, type LookupOptions } from 'node:dns'
import { isIP } from 'node:net'
import { Agent, buildConnector, errors, request } from 'undici'
import { bareHost, isPublicAddress } from '../guard/addresses.ts'
import { MAX_ANSWER_BYTES, NOT_PUBLIC, TOO_LATE, Undelivered, UNREACHABLE, type Post } from '../webhooks/post.ts'

type Found = (error: NodeJS.ErrnoException | null, address: string | LookupAddress[], family?: number) => void
/** Every address of a name; the system's resolver, but for tests. */
export type Resolver = (hostname: string, options: LookupOptions & { all: true }, found: (error: NodeJS.ErrnoException | null, addresses: LookupAddress[]) => void) => void

export interface WebhookDialler {
  readonly post: Post
  close(): Promise<void>
}

/** Idle connections are let go soon: most receivers hear of us now and then only. */
const AGENT = { keepAliveTimeout: 4_000, connections: 32 }

export function webhookDialler(resolve: Resolver = systemLookup): WebhookDialler {
  const [checked, free] = [new Agent({ ...AGENT, connect: checkedConnector(resolve) }), new Agent(AGENT)]
  return {
    async post({ url, headers, body, timeoutMs, mayBePrivate, signal }) {
      const late = AbortSignal.timeout(timeoutMs)
      try {
        const answer = await request(url, { method: 'POST', headers, body, dispatcher: mayBePrivate ? free : checked, signal: AbortSignal.any([late, signal]) })
        await answer.body.dump({ limit: MAX_ANSWER_BYTES })
        const retryAfter = answer.headers['retry-after']
        return { status: answer.statusCode, retryAfter: Array.isArray(retryAfter) ? retryAfter[0] : retryAfter }
      } catch (error) {
        throw new Undelivered(late.aborted ? TOO_LATE : reasonOf(error), { cause: error })
      }
    },
    close: async () => {
      await Promise.all([checked.destroy(), free.destroy()])
    },
  }
}

function checkedConnector(resolve: Resolver): buildConnector.connector {
  const connect = buildConnector({ lookup: checkedLookup(resolve) })
  return (options, callback) => {
    const host = bareHost(options.hostname)
    // A literal address is never looked up.
    if (isIP(host) !== 0 && !isPublicAddress(host)) return callback(new RefusedAddress(host), null)
    connect(options, callback)
  }
}

const checkedLookup = (resolve: Resolver) => (hostname: string, options: LookupOptions, found: Found) => {
  resolve(hostname, { ...options, all: true }, (error, addresses) => {
    if (error) return found(error, [])
    if (!addresses.every(({ address }) => isPublicAddress(address))) return found(new RefusedAddress(hostname), [])
    if (options.all === true) return found(null, addresses)
    const [first] = addresses
    found(null, first?.address ?? '', first?.family ?? 0)
  })
}

class RefusedAddress extends Error {
  override readonly name = 'RefusedAddress'
}

function reasonOf(error: unknown): string {
  for (let at = error; at instanceof Error; at = at.cause) {
    if (at instanceof RefusedAddress) return NOT_PUBLIC
    if (at instanceof errors.ConnectTimeoutError) return TOO_LATE
    const code = 'code' in at && typeof at.code === 'string' ? at.code : ''
    if (code === 'ENOTFOUND' || code === 'EAI_AGAIN') return 'the name of the receiver is not known'
    if (/CERT|TLS|SSL|SELF_SIGNED|UNABLE_TO_/.test(code)) return 'the certificate of the receiver is not good'
  }
  return UNREACHABLE
}
