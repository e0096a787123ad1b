/**
 * The two tokens of the person at this machine, made offline: the Worker keeps no record of them and takes them for
 * their signature. So they can be ended by their time and by a new signing key, not by revoking them.
 */
import { uuidv7 } from 'uuidv7'
import { APP_DEFAULT_SCOPES, SCOPES } from '../router/core/scopes.ts'
import type { Keys } from '../router/guard/keys.ts'
import { DEFAULT_TTL_S } from '../router/guard/mint.ts'
import { mint, verify } from '../router/guard/tokens.ts'
import { RENEW_BEFORE_MS, TENANT } from '../cli/router.ts'

const WISHES = { app: { subject: 'local-app', scopes: APP_DEFAULT_SCOPES }, admin: { subject: 'owner', scopes: SCOPES } } as const

/** `kept`, so that a restart does not break what people configured; a new one when it is nearly over or of another key. */
export async function localToken(keys: Keys, kind: 'app' | 'admin', kept: string | undefined, now: number): Promise<string> {
  if (kept !== undefined) {
    const who = await verify(keys, kept, now + RENEW_BEFORE_MS).catch(() => undefined)
    if (who?.kind === kind && who.tenant === TENANT) return kept
  }
  const jti = uuidv7().replaceAll('-', '')
  return (await mint(keys, { kind, tenant: TENANT, jti, ttlS: DEFAULT_TTL_S, ...WISHES[kind] }, now)).token
}
