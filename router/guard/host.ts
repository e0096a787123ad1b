/**
 * Reading `Host` and `Origin`, which anybody can write. Strict on purpose: what a parser could understand in two ways
 * is not understood at all.
 *
 * Which names are welcome is the perimeter's business.
 */

/** `uri-host [ ":" port ]` of RFC 9110 §7.2, less percent-encoding, which no browser sends. */
const HOST = /^([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9_-])?\.?|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?$/
const LOOPBACK_V4 = /^127(?:\.(?:0|[1-9][0-9]{0,2})){3}$/

/** The name or address of a `Host` header in one spelling: lower case, no port, no final dot, IPv6 compressed and in brackets. */
export function hostName(host: string): string | undefined {
  const name = HOST.exec(host)?.[1]
  if (name === undefined || name.includes('..')) return undefined
  if (!name.startsWith('[')) return name.toLowerCase().replace(/\.$/, '')
  return URL.canParse(`http://${name}/`) ? new URL(`http://${name}/`).hostname : undefined
}

/** Of a name as `hostName` gives it. `0.0.0.0` reaches this machine too, and is not a name that we answer to. */
export function isLoopback(name: string): boolean {
  if (LOOPBACK_V4.test(name)) return name.split('.').every((octet) => Number(octet) <= 255)
  return name === 'localhost' || name === '[::1]'
}

/** One spelling for an entry of a list that a person wrote: `::1` and `[::1]`, `Example.com` and `example.com` are the same. */
export function listedName(entry: string): string | undefined {
  return hostName(entry.includes(':') && !entry.startsWith('[') && URL.canParse(`http://[${entry}]/`) ? `[${entry}]` : entry)
}

/** An `Origin` header as a URL if it is a serialised http(s) origin (RFC 6454 §6.2) and nothing more. `null` is none. */
export function parseOrigin(origin: string): URL | undefined {
  if (!URL.canParse(origin)) return undefined
  const url = new URL(origin)
  if (url.protocol !== 'http:' && url.protocol !== 'https:') return undefined
  return url.origin === origin.toLowerCase() ? url : undefined
}

/** Whether a page of `origin` was served under this `Host`, port included: another port is another application. */
export function isSameOrigin(origin: URL, host: string): boolean {
  // Under the scheme of the page, so that its default port may be written or left out. The scheme itself cannot be
  // compared: behind a TLS proxy we are spoken to in http.
  const ours = `${origin.protocol}//${host}/`
  return URL.canParse(ours) && new URL(ours).host === origin.host
}
