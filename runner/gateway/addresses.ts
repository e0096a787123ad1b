/**
 * Which addresses a provider may have: public ones, unless the owner of this machine allows others. A router that could
 * name any address would reach what only this machine can, such as its metadata service or a database next to it.
 */
import { isIP } from 'node:net'
import ipaddr from 'ipaddr.js'

/** All that was ever given out for the open internet (RFC 4291 §2.4). Outside lies `::7f00:1` too, an old way to write 127.0.0.1. */
const GLOBAL_UNICAST = ipaddr.IPv6.parseCIDR('2000::/3')

/** An IPv4 address inside an IPv6 one is judged as what it is. Short and octal forms are none: who reads them differs. */
export function isPublicAddress(address: string): boolean {
  if (isIP(address) === 0) return false
  const parsed = ipaddr.process(address)
  return parsed.range() === 'unicast' && (parsed instanceof ipaddr.IPv4 || parsed.match(GLOBAL_UNICAST))
}

/** Why nobody should be sent there, as far as the URL itself tells; what a name resolves to is seen when it is dialled. */
export function urlProblem(url: URL, mayBePrivate: boolean): string | undefined {
  if (url.protocol !== 'https:' && url.protocol !== 'http:') return 'is neither https nor http'
  const extras = [url.username, url.password, url.search, url.hash]
  if (extras.some((part) => part !== '')) return 'has a user name, a query or a fragment'
  if (mayBePrivate) return undefined
  // A key over the open internet would be anybody's.
  if (url.protocol === 'http:') return 'is plain http'
  const host = hostOf(url.hostname)
  if (isIP(host) !== 0) return isPublicAddress(host) ? undefined : 'is not a public address'
  return /(?:^|\.)localhost\.?$/.test(host) ? 'is this machine' : undefined
}

/** Without the brackets of an IPv6 address in a URL. */
export function hostOf(hostname: string): string {
  return hostname.startsWith('[') ? hostname.slice(1, -1) : hostname
}
