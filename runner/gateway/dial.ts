/**
 * Connections to providers, kept alive for each origin. The address is judged where it is dialled: the name is resolved
 * once, every address that it has is looked at, and one of these is connected to, so no second answer can differ.
 *
 * With `HTTPS_PROXY` the proxy is dialled and resolves the name; then only a literal address can be judged here.
 */
import { lookup as resolve, type LookupAddress, type LookupOptions } from 'node:dns'
import { isIP } from 'node:net'
import { buildConnector, EnvHttpProxyAgent, type Dispatcher } from 'undici'
import { hostOf, isPublicAddress } from './addresses.ts'

/** The owner of the machine has not allowed this address. */
export class RefusedAddress extends Error {
  override readonly name = 'RefusedAddress'
}

export interface Dialler {
  of(mayBePrivate: boolean): Dispatcher
  close(): Promise<void>
}

type Environment = Readonly<Record<string, string | undefined>>
type Found = (error: NodeJS.ErrnoException | null, address: string | LookupAddress[], family?: number) => void

/** `env` is the runner's own; plain http, which is for machines nearby, goes without a proxy. */
export function dialler(env: Environment): Dialler {
  const [checked, free] = [agent(env, checkedConnector()), agent(env, {})]
  return {
    of: (mayBePrivate) => (mayBePrivate ? free : checked),
    close: async () => {
      await Promise.all([checked.destroy(), free.destroy()])
    },
  }
}

function agent(env: Environment, connect: buildConnector.connector | buildConnector.BuildOptions): Dispatcher {
  return new EnvHttpProxyAgent({
    connect,
    httpProxy: '',
    httpsProxy: proxyUrl(env['HTTPS_PROXY'] ?? env['https_proxy'] ?? ''),
    noProxy: env['NO_PROXY'] ?? env['no_proxy'] ?? '',
    // The gateway has one clock for the whole way to the headers.
    headersTimeout: 0,
  })
}

/** Often written without its scheme. */
function proxyUrl(value: string): string {
  return value === '' || value.includes('://') ? value : `http://${value}`
}

function checkedConnector(): buildConnector.connector {
  const connect = buildConnector({ lookup: checkedLookup })
  return (options, callback) => {
    const host = hostOf(options.hostname)
    // A literal address is never looked up.
    if (isIP(host) !== 0 && !isPublicAddress(host)) return callback(refused(host, host), null)
    connect(options, callback)
  }
}

function checkedLookup(hostname: string, options: LookupOptions, found: Found): void {
  resolve(hostname, { ...options, all: true }, (error, addresses) => {
    if (error) return found(error, [])
    const bad = addresses.find(({ address }) => !isPublicAddress(address))
    if (bad) return found(refused(hostname, bad.address), [])
    if (options.all === true) return found(null, addresses)
    const [first] = addresses
    found(null, first?.address ?? '', first?.family ?? 0)
  })
}

function refused(host: string, address: string): RefusedAddress {
  const what = host === address ? host : `${host} (${address})`
  return new RefusedAddress(`${what} is not a public address, and allow_private_base_urls is not set on this machine`)
}
