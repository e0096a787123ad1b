/**
 * `/admin/v1/keys`: the keys that sign our tokens. Rotation makes a new one and leaves the one before it good for what it
 * has signed; the third ends, and with it every token that was never renewed. Operators only: a key is of the whole router.
 */
import { createRoute, z } from '@hono/zod-openapi'
import { Fault } from '../../shared/faults.ts'
import { notFound, problems } from '../api/run-schemas.ts'
import { requireAdmin } from '../guard/authenticate.ts'
import { generateSigningJwk, importKeys } from '../guard/keys.ts'
import { mustOperate, OPERATOR_TENANT } from '../guard/operator.ts'
import { countSigningKeysSealedByOthers } from '../guard/reseal.ts'
import { signingKeyContext, type SigningRing } from '../guard/ring.ts'
import { newRouter } from '../guard/router.ts'
import { countSealedByOthers } from '../store/providers.ts'
import { countSealedByOthers as countWebhooksSealedByOthers } from '../store/webhooks.ts'
import { findSigningKey, pageOfSigningKeys, retirement, rotation, type SigningKeyRow } from '../store/signing-keys.ts'
import { authorOf, commit, iso, isoOrNull } from './change.ts'
import { page, pageOf, PageQuery } from './pages.ts'

const SigningKey = z
  .object({
    kid: z.string(),
    state: z.enum(['signing', 'verifying', 'retired']),
    created_at: z.iso.datetime().nullable().openapi({ description: "Null for the host's own key, which is older than every other." }),
    retired_at: z.iso.datetime().nullable(),
  })
  .openapi('SigningKey')

const json = <S extends z.ZodType>(schema: S) => ({ 'application/json': { schema } })
const shared = { tags: ['identity'], middleware: [requireAdmin()] }

const list = createRoute({
  ...shared,
  method: 'get',
  path: '/admin/v1/keys',
  summary: 'Signing keys, newest first',
  request: { query: PageQuery },
  responses: { 200: { description: 'A page.', content: json(pageOf(SigningKey)) }, ...problems },
})
const rotate = createRoute({
  ...shared,
  method: 'post',
  path: '/admin/v1/keys/rotate',
  summary: 'Sign with a new key from now on',
  description: 'Two keys verify at a time: the new one and the one before it. An older one is retired, and its tokens with it.',
  responses: { 201: { description: 'The new key.', content: json(SigningKey) }, ...problems },
})
const master = createRoute({
  ...shared,
  method: 'get',
  path: '/admin/v1/keys/master',
  summary: 'The master key that secrets are sealed with',
  description: 'Its name only. With `waiting` at 0 nothing is sealed with an older one any more, so that those can be taken away.',
  responses: { 200: { description: 'The newest one.', content: json(z.object({ kid: z.string(), waiting: z.int() }).openapi('MasterKey')) }, ...problems },
})
const retire = createRoute({
  ...shared,
  method: 'delete',
  path: '/admin/v1/keys/{kid}',
  summary: 'Retire a key',
  description: 'Every token that it signed ends, yours too if that is one of them.',
  request: { params: z.object({ kid: z.string().max(64) }) },
  responses: { 200: { description: 'The key, retired.', content: json(SigningKey) }, ...problems, ...notFound, 409: { description: 'It is the last one that is live.' } },
})

export const adminKeys = newRouter()

adminKeys.openapi(list, async (c) => {
  mustOperate(c)
  const { keys, store } = c.get('deps')
  const { after, limit } = c.req.valid('query')
  const rows = await pageOfSigningKeys(store.db, after, limit + 1)
  // The host's own has a row only once it matters, and comes last.
  if (rows.length <= limit && after !== keys.rootKid && !(await findSigningKey(store.db, keys.rootKid))) rows.push(rootRow(keys))
  const live = await liveKids(keys)
  return c.json(page(rows, limit, (row) => row.kid, (row) => view(row, live)), 200)
})

adminKeys.openapi(rotate, async (c) => {
  mustOperate(c)
  const deps = c.get('deps')
  const jwk = await generateSigningJwk()
  const { kid } = await importKeys(jwk, deps.keys.issuer)
  const sealed = await deps.vault.seal(signingKeyContext(kid), JSON.stringify(jwk))
  const now = deps.platform.now()
  const [before] = await liveKids(deps.keys)
  const change = { tenant: OPERATOR_TENANT, action: 'key.rotate', target: `key/${kid}`, before: { signing: before }, after: { signing: kid } }
  await commit(deps, authorOf(c), rotation(deps.store.db, { kid, sealed }, deps.keys.rootKid, now), change)
  deps.keys.changed()
  return c.json(view({ kid, sealed, createdAt: now, retiredAt: null }, [kid]), 201)
})

adminKeys.openapi(master, async (c) => {
  mustOperate(c)
  const { store, vault } = c.get('deps')
  const counts = [countSealedByOthers(store.db, vault.kid), countSigningKeysSealedByOthers(store.db, vault.kid), countWebhooksSealedByOthers(store.db, vault.kid)]
  const waiting = (await Promise.all(counts)).reduce((sum, n) => sum + n, 0)
  return c.json({ kid: vault.kid, waiting }, 200)
})

adminKeys.openapi(retire, async (c) => {
  mustOperate(c)
  const deps = c.get('deps')
  const { db } = deps.store
  const { kid } = c.req.valid('param')
  const row = (await findSigningKey(db, kid)) ?? (kid === deps.keys.rootKid ? rootRow(deps.keys) : undefined)
  if (!row) throw new Fault('not_found', `no key ${kid}`)
  if (row.retiredAt !== null) return c.json(view(row, []), 200)
  const live = await liveKids(deps.keys)
  if (live.length < 2) throw new Fault('conflict', `key ${kid} is the last one that is live; rotate first`)
  const now = deps.platform.now()
  const after: SigningKeyRow = { ...row, retiredAt: now }
  const change = { tenant: OPERATOR_TENANT, action: 'key.retire', target: `key/${kid}`, before: view(row, live), after: view(after, live) }
  await commit(deps, authorOf(c), retirement(db, kid, deps.keys.rootKid, now), change)
  deps.keys.changed()
  // Two admins who retire the two that are left: one of them is too late.
  if (((await findSigningKey(db, kid))?.retiredAt ?? null) === null) throw new Fault('conflict', `key ${kid} is the last one that is live; rotate first`)
  return c.json(view(after, live), 200)
})

const liveKids = async (keys: SigningRing) => (await keys.live()).map(({ kid }) => kid)

const rootRow = ({ rootKid }: SigningRing): SigningKeyRow => ({ kid: rootKid, sealed: null, createdAt: 0, retiredAt: null })

function view({ kid, sealed, createdAt, retiredAt }: SigningKeyRow, live: readonly string[]): z.infer<typeof SigningKey> {
  const state = retiredAt !== null ? 'retired' : live[0] === kid ? 'signing' : 'verifying'
  return { kid, state, created_at: sealed === null ? null : iso(createdAt), retired_at: isoOrNull(retiredAt) }
}
