/**
 * Webhooks over the network of this machine. A name is resolved once, every address that it has is looked at, and one of
 * these is connected to, so that no second answer can differ. No proxy, no redirect.
 */
import { Resolver as Dns, type LookupAddress, type LookupOptions } from 'node:dns'
import { isIP } from 'node:net'
import { Agent, buildConnector, errors, request } from 'undici'
import { bareHost, isPublicAddress } from '../guard/addresses.ts'
import { MAX_ANSWER_BYTES, NOT_PUBLIC, TOO_LATE, Undelivered, UNREACHABLE, type Post } from '../webhooks/post.ts'

type Found = (error: NodeJS.ErrnoException | null, address: string | LookupAddress[], family?: number) => void
/** Every address of a name. Rejects when there is none. */
export type Resolver = (hostname: string) => Promise<LookupAddress[]>

export interface WebhookDialler {
  readonly post: Post
  close(): Promise<void>
}

/** Idle connections are let go soon: most receivers hear of us now and then only. */
const AGENT = { keepAliveTimeout: 4_000, connections: 32 }
/** Of one question to one name server. */
const DNS_MS = 2_000
/** A name without an address, as the system and as name servers put it. */
const UNKNOWN_NAME = new Set(['ENOTFOUND', 'EAI_AGAIN', 'ENODATA', 'ESERVFAIL', 'EREFUSED'])

/** `resolve` is not for private addresses: their names may be known to the system alone. */
export function webhookDialler(resolve: Resolver = dnsResolver()): WebhookDialler {
  const [checked, free] = [new Agent({ ...AGENT, connect: checkedConnector(resolve) }), new Agent(AGENT)]
  return {
    async post({ url, headers, body, timeoutMs, mayBePrivate, signal }) {
      const late = AbortSignal.timeout(timeoutMs)
      try {
        const by = { dispatcher: mayBePrivate ? free : checked, signal: AbortSignal.any([late, signal]) }
        const answer = await request(url, { method: 'POST', headers, body, ...by })
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

const checkedLookup = (resolve: Resolver) => (hostname: string, { all, family }: LookupOptions, found: Found) => {
  const answer = (addresses: LookupAddress[]) => {
    if (!addresses.every(({ address }) => isPublicAddress(address))) return found(new RefusedAddress(hostname), [])
    const wanted = addresses.filter((one) => family === undefined || family === 0 || one.family === Number(String(family).replace('IPv', '')))
    if (all === true) return found(null, wanted)
    const [first] = wanted
    found(null, first?.address ?? '', first?.family ?? 0)
  }
  resolve(hostname).then(answer, (error: NodeJS.ErrnoException) => found(error, []))
}

/**
 * The system's own way, `getaddrinfo`, keeps one of four threads busy for as long as a name server is silent, and signatures
 * are checked on the same four: who names slow hosts would hold up everybody. This one asks the name servers by itself.
 */
function dnsResolver(): Resolver {
  const dns = new Dns({ timeout: DNS_MS, tries: 2 })
  const ask = (family: 4 | 6, hostname: string) =>
    new Promise<LookupAddress[]>((resolve, reject) => {
      const found = (error: NodeJS.ErrnoException | null, addresses: string[]) => {
        if (error) reject(error)
        else resolve(addresses.map((address) => ({ address, family })))
      }
      if (family === 4) dns.resolve4(hostname, found)
      else dns.resolve6(hostname, found)
    })
  return async (hostname) => {
    const answers = await Promise.allSettled([ask(4, hostname), ask(6, hostname)])
    const addresses = answers.flatMap((answer) => (answer.status === 'fulfilled' ? answer.value : []))
    const [first] = answers
    if (addresses.length === 0) throw first.status === 'rejected' ? first.reason : new Error(`${hostname} has no address`)
    return addresses
  }
}

class RefusedAddress extends Error {
  override readonly name = 'RefusedAddress'
}

function reasonOf(error: unknown): string {
  for (let at = error; at instanceof Error; at = at.cause) {
    if (at instanceof RefusedAddress) return NOT_PUBLIC
    if (at instanceof errors.ConnectTimeoutError) return TOO_LATE
    const code = 'code' in at && typeof at.code === 'string' ? at.code : ''
    if (UNKNOWN_NAME.has(code)) return 'the name of the receiver is not known'
    if (/CERT|TLS|SSL|SELF_SIGNED|UNABLE_TO_/.test(code)) return 'the certificate of the receiver is not good'
  }
  return UNREACHABLE
}
