/** Tokens that this router signed: the signature and the claims first, then the record, which may have been revoked since. */
import { decodeProtectedHeader } from 'jose'
import { Fault } from '../../shared/faults.ts'
import type { Principal } from '../ports.ts'
import { notValid, refuseByTenant, refuseExpired, type Admission, type GuardDeps } from './admission.ts'
import type { Keys } from './keys.ts'
import { verify } from './tokens.ts'

type Needs = Pick<GuardDeps, 'keys' | 'identity' | 'platform'>

/** Throws `unauthenticated`, or `forbidden` for a disabled tenant. */
export async function admitOwn(deps: Needs, token: string): Promise<Admission> {
  const { kid } = headerOf(token)
  const key = typeof kid === 'string' ? await deps.keys.find(kid) : undefined
  if (!key) throw new Fault('unauthenticated', 'the token was not signed by this router')
  return admitted(deps, await deps.identity.verified.own.claims(token, key, () => verify(key, token, deps.platform.now())), key)
}

/** The same, without reading the token again, for one that was found good a moment ago; undefined: it is to be read. */
export async function admitKnown(deps: Needs, token: string): Promise<Admission | undefined> {
  const known = await deps.identity.verified.own.known(token)
  // It may have been retired since.
  return known && (await deps.keys.find(known.key.kid)) === known.key ? admitted(deps, known.claims, known.key) : undefined
}

async function admitted(deps: Needs, who: Principal, { kid }: Keys): Promise<Admission> {
  const recheck = async () => {
    refuseExpired(who, deps.platform.now())
    await (who.kind === 'runner' ? refuseRunner(deps, who, kid) : refuseToken(deps, who, kid))
  }
  await recheck()
  return { who, recheck }
}

function headerOf(token: string): { kid?: unknown } {
  try {
    return decodeProtectedHeader(token)
  } catch {
    throw notValid()
  }
}

/** A token without a row is taken: rows are pruned, and the signature is ours. */
async function refuseToken({ identity }: Needs, who: Principal, kid: string): Promise<void> {
  const { jti, tenant } = who
  const row = await identity.registry.token({ jti, tenant, kid })
  if (!row) return
  refuseRetired(row)
  if (row.revokedAt !== null) throw new Fault('unauthenticated', 'the token was revoked')
  if (row.tenant !== null && (row.tenant !== tenant || row.kind !== who.kind)) throw notValid()
  // `iat` has whole seconds only: a token that was made right after the others were revoked would look older than that.
  refuseByTenant(tenant, row, row.createdAt ?? who.issuedAt)
}

/** A runner without a row is none. */
async function refuseRunner({ identity }: Needs, who: Principal, kid: string): Promise<void> {
  const { subject: runner, tenant } = who
  const row = await identity.registry.runner({ runner, tenant, kid })
  if (!row || row.tenant === null || row.revokedAt !== null) throw new Fault('unauthenticated', 'the runner is not enrolled, or was revoked')
  refuseRetired(row)
  if (row.tenant !== tenant || row.pool !== who.pool) throw new Fault('unauthenticated', 'the runner has moved; it needs a new token')
  refuseByTenant(tenant, row, who.issuedAt)
}

function refuseRetired({ keyRetiredAt }: { readonly keyRetiredAt: number | null }): void {
  if (keyRetiredAt !== null) throw new Fault('unauthenticated', 'the key that signed the token was retired')
}
