/** Addresses to listen on, as they stand in URLs and in `Host` headers. */
import { networkInterfaces } from 'node:os'

/** `[::1]` for `::1`. */
export function bracketed(host: string): string {
  return host.includes(':') && !host.startsWith('[') ? `[${host}]` : host
}

/** Where a client on this machine finds what listens on `host`. */
export function localUrl(host: string, port: number): string {
  const local = host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '::1' : host
  return `http://${bracketed(local)}:${port}`
}

/** What a client may call us without being told of another name: IP literals are safe, no page can rebind one. */
export function ownNames(host: string): string[] {
  if (host !== '0.0.0.0' && host !== '::') return [host]
  return Object.values(networkInterfaces()).flatMap((addresses) => (addresses ?? []).map((a) => a.address.split('%')[0]!))
}
