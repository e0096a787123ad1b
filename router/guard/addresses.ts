/**
 * Which addresses are on the open internet. Whoever may make the router, or a runner, call an address could otherwise reach
 * what only that machine can: its metadata service, or a database next to it.
 */
import ipaddr from 'ipaddr.js'

/** All that was ever given out for the open internet (RFC 4291 §2.4). Outside lies `::7f00:1` too, an old way to write 127.0.0.1. */
const GLOBAL_UNICAST = ipaddr.IPv6.parseCIDR('2000::/3')

/** An IPv4 address inside an IPv6 one is judged as what it is. Whatever is no address is not public. */
export function isPublicAddress(address: string): boolean {
  if (!ipaddr.isValid(address)) return false
  const parsed = ipaddr.process(address)
  return parsed.range() === 'unicast' && (parsed instanceof ipaddr.IPv4 || parsed.match(GLOBAL_UNICAST))
}

/**
 * Whether it names this machine or a private network by itself; what another name resolves to is seen where it is dialled.
 * A `URL` has put decimal, octal, hexadecimal and short forms of IPv4 into dots already.
 */
export function namesPrivateHost({ hostname }: URL): boolean {
  // A trailing dot is the root of the DNS: the same name.
  const host = bareHost(hostname).replace(/\.$/, '')
  if (ipaddr.isValid(host)) return !isPublicAddress(host)
  return /(?:^|\.)(?:localhost|local|internal|home\.arpa)$/.test(host)
}

/** Without the brackets that an IPv6 address has in a URL. */
export function bareHost(hostname: string): string {
  return hostname.replace(/^\[|\]$/g, '')
}
