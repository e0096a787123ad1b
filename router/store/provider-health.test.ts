import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import * as fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { providerHealth, providers } from '../../drizzle/schema.ts'
import { openTreasury, TENANT, type TreasuryRig } from '../../test/kit/treasury.ts'
import type { Statement } from '../ports.ts'
import { addTally, claimProbe, handOnProbe, MAX_MODELS, readHealth, recordFailure, recordOpening, recordSuccess, resetStatements, type HealthRow, type Success } from './provider-health.ts'

let rig: TreasuryRig
beforeEach(async () => {
  rig = await openTreasury()
  await rig.provider('p')
})
afterEach(() => rig.close())

const P = { tenant: TENANT, provider: 'p', version: 1 }
const NOW = 1_000
const RECOVERY = 100
const THRESHOLD = 3
const db = () => rig.database.db
const run = (statements: Statement | Statement[]) => rig.database.batch([statements].flat())
const fail = (now: number, probeUntil?: number) => run(recordFailure(db(), P, { count: 1, threshold: THRESHOLD, until: now + RECOVERY, reason: 'server (500)', probeUntil }, now))
const succeed = (now: number, { claimed = false, model = 'm', stage = 'headers' }: Partial<Success & { model: string }> = {}) =>
  run(recordSuccess(db(), { ...P, model }, { claimed, stage }, now))
const claim = (now: number, until: number, models = ['']) => claimProbe(db(), TENANT, 'p', now, until, models)
const open = (until: number | null, now = NOW, model = '') => run(recordOpening(db(), { ...P, model }, { count: 1, until, reason: 'auth (401)' }, now))
const row = async (model = '') => (await readHealth(db(), TENANT)).find((r) => r.model === model)

describe('a breaker in the database', () => {
  it('opens at the third failure in a row, and a success in between begins the count anew', async () => {
    await fail(NOW)
    await fail(NOW)
    await succeed(NOW, { stage: 'end' })
    await fail(NOW)
    await fail(NOW)
    expect(await row()).toMatchObject({ state: 'closed', failures: 2, openUntil: null, reason: null })
    await fail(NOW)
    expect(await row()).toMatchObject({ state: 'open', failures: 3, openUntil: NOW + RECOVERY, reason: 'server (500)', requests: 0 })
  })

  it('opens by answers that begin and always break off, and by many failures at once', async () => {
    for (let i = 0; i < THRESHOLD; i++) {
      await succeed(NOW)
      await fail(NOW)
    }
    expect(await row()).toMatchObject({ state: 'open', failures: 3 })
    await run(resetStatements(db(), TENANT, 'p', NOW))
    const many = { count: THRESHOLD, threshold: THRESHOLD, until: NOW + RECOVERY, reason: 'x', probeUntil: undefined }
    await run(recordFailure(db(), P, many, NOW))
    expect(await row()).toMatchObject({ state: 'open', failures: 3 })
  })

  it('is moved by nothing that is said of another version of its provider', async () => {
    const old = { ...P, version: 0 }
    await run(recordOpening(db(), { ...old, model: '' }, { count: 1, until: null, reason: 'auth (401)' }, NOW))
    await run(recordOpening(db(), { ...old, model: 'm' }, { count: 1, until: NOW, reason: 'not_found (404)' }, NOW))
    expect(await readHealth(db(), TENANT)).toEqual([])
    await open(NOW + 10)
    await run(recordSuccess(db(), { ...old, model: '' }, { stage: 'headers', claimed: true }, NOW + 20))
    expect(await row()).toMatchObject({ state: 'open' })
  })

  it('that is due is closed by an answer that begins, and not by the end of one that may be older', async () => {
    await open(NOW + 10)
    await succeed(NOW + 10, { stage: 'end' })
    expect(await row()).toMatchObject({ state: 'open' })
    await succeed(NOW + 10)
    expect(await row()).toMatchObject({ state: 'closed' })
  })

  it('is not kept open by stragglers, nor closed by one that succeeds before its time is over', async () => {
    for (let i = 0; i < 3; i++) await fail(NOW)
    await fail(NOW + 50)
    await succeed(NOW + 60)
    expect(await row()).toMatchObject({ state: 'open', openUntil: NOW + RECOVERY })
    await succeed(NOW + RECOVERY)
    expect(await row()).toMatchObject({ state: 'closed', failures: 0 })
  })

  it('that waits for an admin is closed by nothing but an admin', async () => {
    await open(null)
    await open(NOW + 5)
    await fail(NOW)
    await succeed(NOW + 1_000_000)
    expect(await claim(NOW + 1_000_000, NOW + 2_000_000)).toEqual([])
    expect(await row()).toMatchObject({ state: 'open', openUntil: null, reason: 'auth (401)' })
    await run(resetStatements(db(), TENANT, 'p', NOW))
    expect(await row()).toMatchObject({ state: 'closed', failures: 0, reason: null })
  })

  it('lets the time that the provider asked for only grow', async () => {
    await open(NOW + 300)
    await open(NOW + 50)
    expect(await row()).toMatchObject({ openUntil: NOW + 300 })
    await open(NOW + 400)
    expect(await row()).toMatchObject({ openUntil: NOW + 400 })
  })

  it('is tried by one, who settles it, also late; a probe that never reports frees itself', async () => {
    await open(NOW + 10)
    expect(await claim(NOW + 9, NOW + 50)).toEqual([])
    expect(await claim(NOW + 10, NOW + 50)).toEqual([''])
    expect(await claim(NOW + 10, NOW + 51)).toEqual([])
    await succeed(NOW + 11)
    await fail(NOW + 11)
    expect(await row()).toMatchObject({ state: 'half_open', probeUntil: NOW + 50 })
    expect(await claim(NOW + 50, NOW + 90)).toEqual([''])
    await fail(NOW + 51, NOW + 50)
    expect(await row()).toMatchObject({ state: 'half_open', probeUntil: NOW + 90 })
    await fail(NOW + 52, NOW + 90)
    expect(await row()).toMatchObject({ state: 'open', openUntil: NOW + 52 + RECOVERY, probeUntil: null })
    expect(await claim(NOW + 200, NOW + 250)).toEqual([''])
    await run(handOnProbe(db(), TENANT, 'p', NOW + 250))
    expect(await claim(NOW + 200, NOW + 260)).toEqual([''])
    expect(await claim(NOW + 260, NOW + 300)).toEqual([''])
    await succeed(NOW + 261, { claimed: true })
    expect(await row()).toMatchObject({ state: 'closed', failures: 0, openUntil: null, probeUntil: null })
  })

  it('of a model is there while it is open, and the provider has nothing to do with it', async () => {
    await open(NOW + 10, NOW, 'm')
    expect(await row('m')).toMatchObject({ state: 'open', openUntil: NOW + 10 })
    expect(await row()).toBeUndefined()
    await succeed(NOW + 10, { model: 'other' })
    expect(await row('m')).toBeDefined()
    expect(await claim(NOW + 10, NOW + 50, ['', 'other'])).toEqual([])
    expect(await claim(NOW + 10, NOW + 50, ['', 'm'])).toEqual(['m'])
    await succeed(NOW + 11, { claimed: true })
    expect(await row('m')).toBeUndefined()
  })

  it('keeps no more models than somebody who makes up names could fill it with, and forgets old ones', async () => {
    for (let i = 0; i < MAX_MODELS + 5; i++) await open(NOW, NOW, `m${i}`)
    expect(await readHealth(db(), TENANT)).toHaveLength(MAX_MODELS)
    await open(NOW + 9, NOW, 'm0')
    expect(await row('m0')).toMatchObject({ openUntil: NOW + 9 })
    await open(NOW + 7_200_000, NOW + 7_200_000, 'new')
    expect((await readHealth(db(), TENANT)).map((r) => r.model)).toEqual(['new'])
  })

  it('is not made for a provider that is not there', async () => {
    await db().delete(providers)
    await fail(NOW)
    await open(null)
    await open(NOW, NOW, 'm')
    await run(addTally(db(), P, { requests: 1, failed: 0, inputTokens: 1, outputTokens: 1, latency: { keeps: 1, adds: 0 } }, NOW))
    expect(await readHealth(db(), TENANT)).toEqual([])
  })

  it('does what the three states say, in any order of events', async () => {
    type Event = { do: 'fail' | 'ok' | 'end' | 'stray fail' | 'stray ok' | 'auth' | 'limit' | 'claim' | 'wait' | 'reset' }
    const someEvent = fc.record<Event>({ do: fc.constantFrom('fail', 'fail', 'ok', 'end', 'stray fail', 'stray ok', 'auth', 'limit', 'claim', 'wait', 'reset') })
    await fc.assert(
      fc.asyncProperty(fc.array(someEvent, { maxLength: 25 }), async (events) => {
        await db().delete(providerHealth)
        const is = { state: 'closed' as HealthRow['state'], failures: 0, openUntil: null as number | null, probeUntil: null as number | null }
        let now = NOW
        let probe: number | undefined
        const claims: [string[], string[]][] = []
        for (const event of events) {
          now += event.do === 'wait' ? 60 : 1
          const opens = (until: number | null) => Object.assign(is, { state: 'open', openUntil: until, probeUntil: null })
          const closes = () => Object.assign(is, { state: 'closed', failures: 0, openUntil: null, probeUntil: null })
          const isMine = event.do.startsWith('stray') ? false : is.state === 'half_open' && is.probeUntil === probe
          const isDue = is.state === 'open' && is.openUntil !== null && is.openUntil <= now
          switch (event.do) {
            case 'fail':
            case 'stray fail':
              is.failures++
              if (is.state === 'closed' ? is.failures >= THRESHOLD : isMine || isDue) opens(now + RECOVERY)
              await fail(now, event.do === 'fail' ? probe : undefined)
              break
            case 'ok':
            case 'stray ok': {
              const claimed = event.do === 'ok' && probe !== undefined
              if ((claimed && is.state === 'half_open') || isDue || (is.state === 'half_open' && is.probeUntil! <= now)) closes()
              await succeed(now, { claimed })
              break
            }
            case 'end':
              if (is.state === 'closed') is.failures = 0
              await succeed(now, { stage: 'end' })
              break
            case 'auth':
              is.failures++
              opens(null)
              await open(null, now)
              break
            case 'limit':
              is.failures++
              opens(is.state === 'open' && is.openUntil === null ? null : Math.max(now + 40, is.openUntil ?? 0))
              await open(now + 40, now)
              break
            case 'claim': {
              const canClaim = isDue || (is.state === 'half_open' && is.probeUntil! <= now)
              const got = await claim(now, now + 50)
              claims.push([got, canClaim ? [''] : []])
              if (canClaim) Object.assign(is, { state: 'half_open', probeUntil: (probe = now + 50) })
              break
            }
            case 'wait':
              break
            case 'reset':
              closes()
              await run(resetStatements(db(), TENANT, 'p', now))
              break
          }
          expect((await row()) ?? { state: 'closed', failures: 0, openUntil: null, probeUntil: null }).toMatchObject(is)
        }
        expect(claims.map(([got]) => got)).toEqual(claims.map(([, due]) => due))
      }),
      { numRuns: 60 },
    )
  })
})

describe('a probe that many want', () => {
  it('goes to exactly one of several processes, every time', { timeout: 60_000 }, async () => {
    const ROUNDS = 60
    await rig.database.batch(
      Array.from({ length: ROUNDS }, (_, i) => db().insert(providerHealth).values({ tenant: TENANT, provider: `p${i + 1}`, state: 'open', openUntil: NOW, updatedAt: NOW })),
    )
    const script = fileURLToPath(new URL('../../test/support/claim-probes.mjs', import.meta.url))
    const claimants = await Promise.all(
      [0, 1, 2].map(async () => {
        const child = spawn(process.execPath, [script, rig.path], { stdio: ['pipe', 'pipe', 'inherit'] })
        const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
        const line = async () => (await lines.next()).value as unknown
        expect(await line()).toBe('ready')
        return { child, line }
      }),
    )
    try {
      const winners: number[] = []
      for (let round = 1; round <= ROUNDS; round++) {
        for (const { child } of claimants) child.stdin.write(`p${round}\n`)
        const answers = await Promise.all(claimants.map(({ line }) => line()))
        winners.push(answers.filter((claimed) => claimed === '1').length)
      }
      expect(winners).toEqual(winners.map(() => 1))
    } finally {
      const gone = claimants.map(({ child }) => once(child, 'close'))
      for (const { child } of claimants) child.stdin.end()
      await Promise.all(gone)
    }
  })
})
