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

describe('the budget of a session', () => {
  const who = { kind: 'app', tenant: 'other', subject: 'ci', jti: 's', from: 'router', issuedAt: 0, expiresAt: 0 } as const
  const principal: Principal = { ...who, scopes: new Set<string>(), narrowing: {}, pool: undefined }
  const letIn = async (run: string, session: string, sessionUsd: number, askedUsd?: number) => {
    const plan = await planOf(router.deps, principal, { session, createdAt: router.clock.now, sessionUsd }, askedUsd)
    await admit(router.deps, run, plan)
    return plan.budgetUsd
  }

  it('is held for one run at a time, however many ask at once', async () => {
    const all = await Promise.allSettled(Array.from({ length: 5 }, (_, i) => letIn(`run_a${i}`, 'a', 0.3)))
    expect(all.filter(({ status }) => status === 'fulfilled')).toEqual([{ status: 'fulfilled', value: 0.3 }])
    const refused = all.filter((one) => one.status === 'rejected').map(({ reason }) => reason as unknown)
    const extra = { budget: 'session', limit_usd: 0.3, spent_usd: 0, reserved_usd: 0.3 }
    for (const fault of refused) expect(fault).toMatchObject({ code: 'budget', extra })
  })

  it('is shared by runs that say what they take', async () => {
    expect([await letIn('run_b1', 'b', 0.5, 0.3), await letIn('run_b2', 'b', 0.5, 0.3)]).toEqual([0.3, 0.2])
    await expect(letIn('run_b3', 'b', 0.5, 0.3)).rejects.toMatchObject({ code: 'budget' })
    expect(await letIn('run_b4', 'b', 0.9, 0.3)).toBe(0.3)
  })

  it('of nothing lets nothing in', async () => {
    await expect(letIn('run_c', 'c', 0)).rejects.toMatchObject({ code: 'budget', extra: { limit_usd: 0 } })
  })

  it('counts what was spent before anybody set one', async () => {
    const row = { id: 'run_d0', tenant: 'other', subject: 'ci', token: 't', needs: {}, session: 'd', pool: 'default', labels: {} }
    const times = { priority: 5, queueUntil: 0, timeoutS: 60, createdAt: 1, endedAt: 1 }
    await router.database.db.insert(runs).values({ ...row, ...times, state: 'succeeded', costUsd: 0.25 })
    expect(await letIn('run_d1', 'd', 0.3)).toBe(0.05)
  })
})

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
