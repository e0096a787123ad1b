/**
 * The public keys of a trusted issuer: found by OIDC discovery, kept as plain data, asked for again at most every 30 s
 * whatever callers send. Only a URL that an operator has configured is ever fetched, and what that one names as its
 * `jwks_uri`; nothing that is in a token leads anywhere.
 *
 * An issuer that is down ends nothing: the keys that are known go on working for a day.
 */
import type { JSONWebKeySet } from 'jose'
import { z } from 'zod'
import { Fault } from '../../shared/faults.ts'
import type { Log, Platform } from '../ports.ts'
import { isIssuerUrl } from './issuer-url.ts'

/** A kid that is not known, and an issuer that has just failed, are asked about again after this long. */
export const COOLDOWN_MS = 30_000
/** Keys are read anew after this long, so that one that was taken away is felt. */
const STALE_MS = 10 * 60_000
const GONE_MS = 24 * 3_600_000
const TIMEOUT_MS = 5_000
const MAX_BYTES = 256 * 1024
const MAX_KEYS = 100
/** Somebody else is asking: his answer is looked for this often, and no longer than he may take for his two requests. */
const LOOK_MS = 25
const ASKING_MS = 2 * TIMEOUT_MS + 1_000

export interface IssuerKeys {
  /**
   * Throws the fault `issuer` when there are none and they cannot be had now. `has`: whether a set will do; one that does
   * not is fetched anew, unless that was done a moment ago, and then given all the same.
   */
  of(url: string, has: (keys: JSONWebKeySet) => boolean): Promise<JSONWebKeySet>
}

interface Known {
  keys: JSONWebKeySet | undefined
  /** When `keys` came, and when somebody last asked for them. */
  at: number
  askedAt: number
  /** Somebody is asking until then. A promise would belong to his request, so others look here. */
  busyUntil: number
}

/** What outlives a request, by the URL of the issuer. */
export type IssuerKeysMemory = Map<string, Known>

export interface IssuerKeysParts {
  readonly memory: IssuerKeysMemory
  /** Milliseconds of any clock that only goes forward, the same for all that share `memory`. */
  readonly now: () => number
  readonly background: Platform['background']
  readonly log: Log
}

export function issuerKeysOf({ memory, now, background, log }: IssuerKeysParts): IssuerKeys {
  async function ask(url: string, known: Known): Promise<void> {
    known.askedAt = now()
    known.busyUntil = now() + ASKING_MS
    try {
      known.keys = await fetchKeys(url)
      known.at = now()
    } catch (error) {
      log.warn({ issuer: url, err: error }, 'the keys of an issuer cannot be had')
    } finally {
      known.busyUntil = 0
    }
  }
  return {
    async of(url, has) {
      const known = memory.get(url) ?? { keys: undefined, at: -Infinity, askedAt: -Infinity, busyUntil: 0 }
      memory.set(url, known)
      if (known.keys && now() - known.at > GONE_MS) known.keys = undefined
      const will = () => known.keys !== undefined && has(known.keys)
      const busy = now() < known.busyUntil
      const due = !busy && now() - known.askedAt >= COOLDOWN_MS
      if (will()) {
        if (due && now() - known.at > STALE_MS) background(ask(url, known))
      } else if (busy) await untilAnswered(known, will, now)
      else if (due) await ask(url, known)
      if (known.keys) return known.keys
      const retryAfterS = Math.max(1, Math.ceil((known.askedAt + COOLDOWN_MS - now()) / 1_000))
      throw new Fault('issuer', `the keys of ${url} cannot be had now`, { retryAfterS })
    },
  }
}

async function untilAnswered(known: Known, will: () => boolean, now: () => number): Promise<void> {
  while (now() < known.busyUntil && !will()) await new Promise((resolve) => setTimeout(resolve, LOOK_MS))
}

const Discovery = z.object({ issuer: z.string(), jwks_uri: z.string().max(2_048) })
const KeySet = z.object({ keys: z.array(z.record(z.string(), z.unknown())).max(MAX_KEYS) })

/** OpenID Connect Discovery 1.0 §4: the document has to name the issuer exactly as it was configured. */
async function fetchKeys(url: string): Promise<JSONWebKeySet> {
  const { issuer, jwks_uri: jwksUri } = Discovery.parse(await fetchJson(`${url.replace(/\/$/, '')}/.well-known/openid-configuration`))
  if (issuer !== url) throw new Error(`the discovery document is of another issuer: ${issuer.slice(0, 256)}`)
  // http is for an issuer on this machine, and its keys may be on this machine only.
  if (!isIssuerUrl(jwksUri) || (new URL(jwksUri).protocol === 'http:' && new URL(url).protocol !== 'http:')) {
    throw new Error(`the jwks_uri cannot be used: ${jwksUri.slice(0, 256)}`)
  }
  const { keys } = KeySet.parse(await fetchJson(jwksUri))
  // A key without a type is none; a symmetric one has no place in a public document.
  return { keys: keys.flatMap((key) => (typeof key['kty'] === 'string' && key['kty'] !== 'oct' ? [{ ...key, kty: key['kty'] }] : [])) }
}

async function fetchJson(url: string): Promise<unknown> {
  // A redirect would lead to where nobody has configured anything. workerd knows no `redirect: 'error'`.
  const response = await fetch(url, { redirect: 'manual', headers: { accept: 'application/json' }, signal: AbortSignal.timeout(TIMEOUT_MS) })
  if (response.status !== 200) {
    await response.body?.cancel()
    throw new Error(`${url} answered ${response.status}`)
  }
  return JSON.parse(await boundedText(response)) as unknown
}

async function boundedText({ body, url }: Response): Promise<string> {
  const decoder = new TextDecoder()
  let text = ''
  let size = 0
  for await (const chunk of body ?? []) {
    size += chunk.byteLength
    if (size > MAX_BYTES) throw new Error(`${url} answered more than ${MAX_BYTES} bytes`)
    text += decoder.decode(chunk, { stream: true })
  }
  return text + decoder.decode()
}
