import { describe, expect, it } from 'vitest'
import { against, alone, reached, rounds, type Context } from '../../bench/programme.ts'
import { machineTime, stolenSince } from '../../bench/proc.ts'
import { failed, table } from '../../bench/report.ts'
import { shuffled } from '../../bench/shuffle.ts'

const context = (given: Partial<Context>): Context => ({ rounds: 3, short: false, seed: 7, say: () => undefined, saw: () => undefined, ...given })
const ABOUT = { goal: '3', what: 'cost', unit: 's' }

describe('a programme', () => {
  it('measures every target in each round and leaves the first round out', async () => {
    const seen: string[] = []
    const samples = await rounds(context({}), ['ours', 'floor'] as const, (target, round) => {
      seen.push(target)
      return Promise.resolve({ ms: target === 'ours' ? round : 10 * round })
    })
    expect(samples).toEqual({ ours: { ms: [1, 2, 3] }, floor: { ms: [10, 20, 30] } })
    expect(seen).toHaveLength(8)
  })

  it('has one round in its short form, and counts it', async () => {
    const samples = await rounds(context({ short: true }), ['ours'] as const, (_, round) => Promise.resolve({ ms: round }))
    expect(samples).toEqual({ ours: { ms: [0] } })
  })

  it('leaves out the warm-up of what is always fresh, and ends after the most rounds it may have', async () => {
    const seen: number[] = []
    const measure = (_: string, round: number) => Promise.resolve({ ms: seen.push(round) })
    await rounds(context({ rounds: 5 }), ['ours'] as const, measure, { most: 2, fresh: true })
    await rounds(context({ rounds: 5, short: true }), ['ours'] as const, measure, { most: 2, fresh: true })
    expect(seen).toEqual([1, 2, 0])
  })

  it('leaves a round out that came to no number, and says that a row has none', () => {
    const limit = { kind: 'ratio', at: 1.25, better: 'less' } as const
    const some = against({ ...ABOUT, limit }, [Number.NaN, 2, 3], [1, 2, Number.NaN])
    expect([some.ours, some.floor, some.ratio, reached(some)]).toEqual([2, 1, 1, true])
    const none = against({ ...ABOUT, limit }, [Number.NaN], [1])
    expect(reached(none)).toBeUndefined()
    expect(table([{ programme: 'x', rows: [none], counts: { lost: 0, reordered: 0, corrupt: 0, broken: 0 }, seconds: 1, stolen: 0 }], false)).toContain('no number')
  })

  it('goes in the same order for the same seed, and in others for others', () => {
    const names = ['a', 'b', 'c', 'd', 'e']
    expect(shuffled(names, 5)).toEqual(shuffled(names, 5))
    expect(new Set(Array.from({ length: 50 }, (_, seed) => shuffled(names, seed).join(''))).size).toBeGreaterThan(20)
    expect(shuffled(names, 1).toSorted((a, b) => a.localeCompare(b))).toEqual(names)
  })

  it('takes the ratio of each round before the median, so that a slow minute meets both', () => {
    const row = against({ ...ABOUT, limit: { kind: 'ratio', at: 1.25, better: 'less' } }, [2, 20, 6], [2, 10, 5])
    expect([row.ours, row.floor, row.ratio]).toEqual([6, 5, 1.2])
    expect(reached(row)).toBe(true)
  })

  it('holds a number that stands alone against its limit, at the limit and past it', () => {
    const row = (n: number) => alone({ ...ABOUT, limit: { kind: 'absolute', at: 100, better: 'more' } }, [n])
    expect([reached(row(100)), reached(row(99)), reached(alone(ABOUT, [1]))]).toEqual([true, false, undefined])
  })
})

describe('the report', () => {
  const found = { programme: 'x', rows: [alone(ABOUT, [0.5])], counts: { lost: 0, reordered: 0, corrupt: 0, broken: 0 }, seconds: 1, stolen: 0 }

  it('fails on what was lost, reordered, corrupt or broken and on a programme that failed, and on nothing else', () => {
    expect(failed(found)).toBe(false)
    expect(failed({ ...found, counts: { ...found.counts, reordered: 1 } })).toBe(true)
    expect(failed({ ...found, error: 'no' })).toBe(true)
    expect(failed({ ...found, rows: [alone({ ...ABOUT, limit: { kind: 'absolute', at: 0.1, better: 'less' } }, [0.5])] })).toBe(false)
  })

  it('orders rows by their goal, with those of none at the end', () => {
    const rows = ['', '9', '10', '1'].map((goal) => alone({ goal, what: `goal ${goal}`, unit: 's' }, [1]))
    expect(table([{ ...found, rows }], false).split('\n').slice(1, 5).map((line) => line.split(' ')[0])).toEqual(['1', '9', '10', ''])
  })
  it('says what share of the processors other machines had, where it is any', () => {
    const [before, after] = ['cpu  10 0 10 70 5 1 2 2 99 99', 'cpu  40 0 20 100 5 1 2 32 99 99'].map((cpu) => machineTime(`${cpu}\ncpu0 1 2 3\n`))
    expect(stolenSince(before!, after)).toBe(0.3)
    expect(stolenSince(after!, after)).toBe(0)
    expect(table([{ ...found, stolen: 0.3 }], false)).toContain('in 1 s; other machines had 30 % of the processors')
    expect(table([found], false)).not.toContain('other machines')
  })
})
