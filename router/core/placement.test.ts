import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Needs, PolicyView } from '../../shared/policy.ts'
import { place, type Candidate, type Wish } from './placement.ts'

const wish: Wish = { pool: 'default', labels: {}, bound: undefined, needs: {}, tried: new Set() }
const runner = (id: string, more: Partial<Candidate> = {}): Candidate => ({
  id,
  pool: 'default',
  labels: {},
  slots: 4,
  busy: 0,
  draining: false,
  ...more,
})
/** A random source that is the same in every run of the test (mulberry32). */
function seeded(seed: number): () => number {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

const strict: PolicyView = {
  permission_modes: ['default'],
  bypass: false,
  mcp_config: false,
  agents: true,
  system_prompts: true,
  allow_private_base_urls: false,
  sandbox: 'none',
}
const lenient: PolicyView = { ...strict, mcp_config: true }
const mcp: Needs = { mcp_config: true }

const someLabels = fc.dictionary(fc.constantFrom('gpu', 'os'), fc.constantFrom('a', 'b'))
const ids = ['r1', 'r2', 'r3', 'r4', 'r5']
const someCandidates = fc
  .uniqueArray(
    fc.record({
      id: fc.constantFrom(...ids),
      pool: fc.constantFrom('default', 'big'),
      labels: someLabels,
      slots: fc.integer({ min: 0, max: 3 }),
      busy: fc.integer({ min: 0, max: 4 }),
      draining: fc.boolean(),
      policy: fc.option(fc.constantFrom(strict, lenient), { nil: undefined }),
    }),
    { selector: (c) => c.id },
  )
  .map((list): Candidate[] => list)
const someWish = fc
  .record({
    pool: fc.constantFrom('default', 'big'),
    labels: someLabels,
    bound: fc.option(fc.constantFrom(...ids), { nil: undefined }),
    needs: fc.constantFrom<Needs>({}, mcp),
    tried: fc.subarray(ids),
  })
  .map((w): Wish => ({ ...w, tried: new Set(w.tried) }))

describe('placing a run', () => {
  it('only ever chooses a runner that fits, is free, stays, allows the run, and has not refused it', () => {
    fc.assert(
      fc.property(someCandidates, someWish, fc.integer(), (candidates, want, seed) => {
        const allowed = candidates.filter(
          (c) =>
            (want.bound === undefined
              ? c.pool === want.pool && Object.entries(want.labels).every(([k, v]) => c.labels[k] === v)
              : c.id === want.bound) &&
            !c.draining &&
            c.busy < c.slots &&
            !(want.needs.mcp_config && c.policy === strict) &&
            !want.tried.has(c.id),
        )
        const placed = place(candidates, want, seeded(seed))
        expect(placed.ok).toBe(allowed.length > 0)
        expect(!placed.ok || allowed.some((c) => c.id === placed.runner)).toBe(true)
      }),
      { numRuns: 500 },
    )
  })

  it('goes to the runner that has the session, whatever pool and labels were asked for', () => {
    const candidates = [runner('r1'), runner('r2', { pool: 'big', slots: 100 })]
    expect(place(candidates, { ...wish, labels: { gpu: 'a' }, bound: 'r2' }, seeded(1))).toEqual({ ok: true, runner: 'r2' })
  })

  it.each<[string, Candidate[], Partial<Wish>, string]>([
    ['no runner is connected', [], {}, 'none_matches'],
    ['none is in the pool', [runner('r1', { pool: 'big' })], {}, 'none_matches'],
    ['none has the label', [runner('r1', { labels: { gpu: 'b' } })], { labels: { gpu: 'a' } }, 'none_matches'],
    ['the runner of the session is away', [runner('r1')], { bound: 'r2' }, 'bound_offline'],
    ['every fitting runner is draining', [runner('r1', { draining: true }), runner('r2', { pool: 'big' })], {}, 'draining'],
    ['every slot is taken', [runner('r1', { busy: 4 })], {}, 'all_busy'],
    ['the only free one refused already', [runner('r1'), runner('r2', { busy: 4 })], { tried: new Set(['r1']) }, 'all_busy'],
    ['a runner has no slots at all', [runner('r1', { slots: 0 })], {}, 'all_busy'],
  ])('says why when %s', (_when, candidates, want, why) => {
    expect(place(candidates, { ...wish, ...want }, seeded(1))).toEqual({ ok: false, why })
  })

  it.each<[string, Candidate[], Partial<Wish>]>([
    ['each that fits', [runner('r1', { policy: strict }), runner('r2', { policy: strict, busy: 4 })], {}],
    ['the one of its session', [runner('r1', { policy: strict }), runner('r2', { policy: lenient })], { bound: 'r1' }],
    ['the only one in its pool', [runner('r1', { policy: strict }), runner('r2', { policy: lenient, pool: 'big' })], {}],
    ['all, of which one leaves anyway', [runner('r1', { policy: strict, draining: true })], {}],
  ])('says which rule it is when %s forbids it', (_who, candidates, want) => {
    expect(place(candidates, { ...wish, needs: mcp, ...want }, seeded(1))).toEqual({
      ok: false,
      why: 'policy',
      refusal: { field: 'mcp_config', message: 'mcp_config: runs on this machine may not name MCP servers' },
    })
  })

  it.each<[string, Partial<Candidate>, string]>([
    ['is full', { busy: 4 }, 'all_busy'],
    ['leaves', { draining: true }, 'draining'],
    ['has not said', { policy: undefined, busy: 4 }, 'all_busy'],
  ])('waits when there is one that may allow it and %s', (_what, more, why) => {
    const candidates = [runner('r1', { policy: strict }), runner('r2', { policy: lenient, ...more })]
    expect(place(candidates, { ...wish, needs: mcp }, seeded(1))).toEqual({ ok: false, why })
  })

  it('takes the one with the larger share of free slots when it looks at both', () => {
    const picks = [0, 0.99]
    const look = () => picks.shift()!
    expect(place([runner('small', { slots: 2, busy: 1 }), runner('large', { slots: 100, busy: 10 })], wish, look)).toEqual({ ok: true, runner: 'large' })
  })

  it('stays inside the list for any random number', () => {
    for (const r of [0, 1 - Number.EPSILON, 1]) expect(place([runner('r1'), runner('r2')], wish, () => r).ok).toBe(true)
  })

  it('spreads runs evenly over equal runners', () => {
    const busy = new Map(ids.map((id) => [id, 0]))
    const random = seeded(7)
    for (let i = 0; i < 500; i++) {
      const placed = place([...busy].map(([id, n]) => runner(id, { slots: 1_000, busy: n })), wish, random)
      if (placed.ok) busy.set(placed.runner, busy.get(placed.runner)! + 1)
    }
    const counts = [...busy.values()]
    expect(counts.reduce((a, b) => a + b)).toBe(500)
    expect(Math.max(...counts) - Math.min(...counts)).toBeLessThanOrEqual(10)
  })

  it('does not herd onto the emptiest runner while the numbers are old', () => {
    const chosen = new Map<string, number>()
    const random = seeded(11)
    const stale = [runner('empty'), ...ids.map((id) => runner(id, { busy: 1 }))]
    for (let i = 0; i < 600; i++) {
      const placed = place(stale, wish, random)
      if (placed.ok) chosen.set(placed.runner, (chosen.get(placed.runner) ?? 0) + 1)
    }
    // Two looks out of six: 11 of 36 see the emptiest one.
    expect(chosen.get('empty')).toBeLessThan(300)
    expect(chosen.size).toBe(6)
  })
})
