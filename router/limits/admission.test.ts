import { eq } from 'drizzle-orm'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { runs, tenants } from '../../drizzle/schema.ts'
import { identityRouter, type IdentityRouter } from '../../test/support/identity-router.ts'
import type { Principal } from '../ports.ts'
import { admit, planOf } from './admission.ts'

let router: IdentityRouter
const DAY = 86_400_000
beforeAll(async () => {
  router = await identityRouter()
  await router.mint({ tenant: 'acme' })
  const settings = { limits: { budget: { token_usd: 5, run_usd: 2 } } }
  await router.database.db.update(tenants).set({ settings }).where(eq(tenants.id, 'acme'))
  router.deps.catalog.changed('acme')
})
afterAll(() => router.close())

/** Somebody whose token was issued just now, and who spent 4 USD yesterday under the same name. */
async function spender(from: Principal['from'], jti: string): Promise<Principal> {
  const now = router.clock.now
  const id = `run_${(now - DAY).toString(16).padStart(12, '0')}${jti.padStart(20, '0')}`
  await router.database.db.insert(runs).values({
    id,
    tenant: 'acme',
    subject: 'ci',
    token: jti,
    needs: {},
    session: id,
    pool: 'default',
    labels: {},
    priority: 5,
    queueUntil: 0,
    timeoutS: 60,
    state: 'succeeded',
    fence: 1,
    createdAt: now - DAY,
    endedAt: now - DAY,
    costUsd: 4,
  })
  const rest = { kind: 'app', tenant: 'acme', subject: 'ci', scopes: new Set<string>(), narrowing: {}, pool: undefined } as const
  return { ...rest, jti, from, issuedAt: now, expiresAt: now + DAY }
}

describe('the budget of a token', () => {
  const ask = async (who: Principal) => {
    const plan = await planOf(router.deps, who, { session: `of ${who.jti}`, createdAt: router.clock.now }, undefined)
    return admit(router.deps, `run_for_${who.jti}`, plan)
  }

  it('of another issuer is that of its subject, who has had other tokens before', async () => {
    await expect(ask(await spender('issuer', 'b'))).rejects.toMatchObject({ code: 'budget', extra: { budget: 'token', spent_usd: 4 } })
  })

  it('of ours begins when it is issued, and nothing older is even looked at', async () => {
    await expect(ask(await spender('router', 'c'))).resolves.toBeUndefined()
  })
})
