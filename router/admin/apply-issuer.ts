/** Trusts the issuer that the config file names, as the admin API would. */
import type { z } from '@hono/zod-openapi'
import { Fault } from '../../shared/faults.ts'
import { findIssuer, issuerChange, issuerInsertion, type IssuerRow } from '../store/issuers.ts'
import { haveTenant } from '../store/tenant-pages.ts'
import { commit, same, type Author, type ChangeDeps } from './change.ts'
import { issuerView, type NewIssuer } from './issuers.ts'

export type IssuerWish = Omit<z.infer<typeof NewIssuer>, 'tenant'> & { readonly tenant: string }

/**
 * What it did. Throws `conflict` for one that is there with another tenant, URL or audience: it would speak for somebody else
 * from one moment to the next.
 */
export async function applyIssuer(
  deps: ChangeDeps,
  author: Author,
  wish: IssuerWish,
): Promise<'created' | 'changed' | undefined> {
  const { store, platform } = deps
  const { id, tenant, url, audience, mapping, enabled } = wish
  const target = `issuer/${id}`
  const was = await findIssuer(store.db, id)
  if (!was) {
    const row: IssuerRow = { id, tenant, url, audience, mapping, enabled, createdAt: platform.now() }
    const statements = [haveTenant(store.db, tenant, row.createdAt), issuerInsertion(store.db, row)]
    await commit(deps, author, statements, { tenant, action: 'issuer.create', target, after: issuerView(row) })
    return 'created'
  }
  for (const field of ['tenant', 'url', 'audience'] as const) {
    if (was[field] !== wish[field]) throw new Fault('conflict', `${field}: is ${was[field]} already; remove the issuer first`)
  }
  const row: IssuerRow = { ...was, mapping, enabled }
  if (same(issuerView(row), issuerView(was))) return undefined
  const change = { tenant, action: 'issuer.update', target, before: issuerView(was), after: issuerView(row) }
  await commit(deps, author, [issuerChange(store.db, id, { mapping, enabled })], change)
  return 'changed'
}
