/** What an isolate can tell of itself, and the keys that it signs with. */
import { uuidv7 } from 'uuidv7'
import { importKeys, type Keys } from '../guard/keys.ts'
import { openVault } from '../guard/vault.ts'
import { identityMemory, identityOf, type Identity } from '../guard/identity.ts'
import type { SigningRing } from '../guard/ring.ts'
import type { Platform, Store, Vault } from '../ports.ts'
import type { Env } from './env.ts'
import { log } from './log.ts'

const NOTHING = { rss: 0, heapTotal: 0, heapUsed: 0, external: 0, arrayBuffers: 0 }

/** `outlive` keeps the isolate at work that outlives its request; an object needs none. */
export function platform(outlive: (work: Promise<unknown>) => void = () => undefined): Platform {
  return {
    now: () => Date.now(),
    id: () => uuidv7().replaceAll('-', ''),
    random: Math.random,
    background: (work) => outlive(work.catch((error: unknown) => log.error({ err: error }, 'work in the background failed'))),
    clientIp: (c) => c.req.header('cf-connecting-ip'),
    vitals: () => ({ uptimeS: 0, memory: NOTHING }),
  }
}

/** By the text that they came from. */
const opened = new Map<string, Vault>()

export async function vaultOf({ MASTER_KEY: text }: Env): Promise<Vault> {
  if (!text) throw new Error('MASTER_KEY is not set: `npx wrangler secret put MASTER_KEY < master-key.json`')
  const known = opened.get(text)
  if (known) return known
  const vault = await openVault(JSON.parse(text))
  opened.set(text, vault)
  return vault
}

/** By the text that they came from. Only what is done is kept: a promise belongs to the request that made it. */
const imported = new Map<string, Keys>()

async function keysOf({ SIGNING_KEY: text }: Env): Promise<Keys> {
  if (!text) throw new Error('SIGNING_KEY is not set: `npx wrangler secret put SIGNING_KEY < signing-key.json`')
  const known = imported.get(text)
  if (known) return known
  const { issuer, jwk } = JSON.parse(text) as { issuer: string; jwk: unknown }
  const keys = await importKeys(jwk, issuer)
  imported.set(text, keys)
  return keys
}

/** Rows and imported keys only: nothing of it belongs to a request. */
const remembered = identityMemory()

/** What the isolate knows of identity, on the database of this request. */
export async function identityFor(env: Env, { db }: Store, outlive?: (work: Promise<unknown>) => void): Promise<{ keys: SigningRing; identity: Identity }> {
  const [vault, root] = await Promise.all([vaultOf(env), keysOf(env)])
  return identityOf({ db, vault, root, platform: platform(outlive), log, memory: remembered, now: Date.now })
}
