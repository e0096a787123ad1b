/** Which URLs the router fetches for an issuer: https, or http on this very machine, with nothing in them but a path. */
import { hostName, isLoopback } from './host.ts'

export function isIssuerUrl(text: string): boolean {
  if (!URL.canParse(text)) return false
  const url = new URL(text)
  if (url.username !== '' || url.password !== '' || url.hash !== '' || url.search !== '') return false
  if (url.protocol === 'https:') return true
  const name = hostName(url.host)
  return url.protocol === 'http:' && name !== undefined && isLoopback(name)
}
