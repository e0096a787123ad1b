/** The judge of statistics must find what it is there for. */
import { describe, expect, it } from 'vitest'
import { judgeAccounts, type Accounts, type Run, type Used } from './accounts.ts'
import type { Story } from './oracle.ts'

const tokens = (output: number) => ({ input_tokens: 1, output_tokens: output, cache_creation_input_tokens: 0, cache_read_input_tokens: 0 })
const run = (id: string, more: Partial<Run> = {}): Run => ({ id, status: 'succeeded', session_id: id, runner_id: 'free', cost_usd: 0.1, usage: tokens(3), duration_ms: 5, ...more })
const used = (more: Partial<Used> = {}): Used => ({ runs: 3, succeeded: 2, failed: 0, cancelled: 1, sessions: 3, ...tokens(6), input_tokens: 2, cost_usd: 0.2, estimated: 0, duration_ms: 10, ...more })
const runs = [run('a'), run('b'), run('c', { status: 'cancelled', usage: null, cost_usd: null, duration_ms: null })]
const half = (more: Partial<Used>): Used => used({ runs: 1, succeeded: 1, cancelled: 0, sessions: 1, ...tokens(3), cost_usd: 0.1, duration_ms: 5, ...more })
const sound: Accounts = { total: used(), by: { model: [half({}), half({ runs: 2, cancelled: 1 })] }, runs, unmetered: new Set(['free']) }

const story = (id: string, cost = 0.1, output = 3): Story => {
  const data = JSON.stringify({ type: 'result', cost_of_turn_usd: cost, usage: tokens(output) })
  const events = [{ id: 1, event: 'message', sha: 's', at: 1 }, { id: 2, event: 'message', sha: 's', at: 2, data }, { id: 3, event: 'done', sha: 's', at: 3, data: '{}' }]
  const diary = { starts: 1, printed: [], clis: [], children: [], cut: false, ended: true }
  return { key: id, run: id, diary, watches: [{ what: 'replay', after: 0, events, finished: true }], cancelAsked: false, readerDied: false, alive: [], mayFail: [] }
}
const found = (more: Partial<Accounts>, stories: Story[] = []) => judgeAccounts({ ...sound, ...more }, stories).map(({ what }) => what)

describe('the judge of statistics', () => {
  it('finds nothing where everything adds up, in whatever order', () => {
    expect(found({}, [story('a'), story('b')])).toEqual([])
    const many = Array.from({ length: 10 }, (_, i) => run(`m${i}`))
    const total = used({ runs: 10, succeeded: 10, cancelled: 0, sessions: 10, ...tokens(30), input_tokens: 10, cost_usd: 1, duration_ms: 50 })
    expect(found({ total, by: {}, runs: many })).toEqual([])
  })

  it('takes a result for lost that a killed runner did not report, and an estimate for what it is', () => {
    expect(found({}, [story('c')])).toEqual([])
    const estimated = { total: used({ estimated: 1, cost_usd: 1.1 }), by: {}, runs: [runs[0]!, run('b', { cost_usd: 1, cost_estimated: true }), runs[2]!] }
    expect(found(estimated, [story('b')])).toEqual([])
  })

  it.each<[string, Partial<Accounts>, Story[], RegExp]>([
    ['a run that was counted twice', { total: used({ runs: 4 }), by: {} }, [], /^runs is 4, but they have 3$/],
    ['a billionth of a dollar', { total: used({ cost_usd: 0.200000001 }), by: {} }, [], /^cost_usd is 0.200000001/],
    ['tokens that are missing', { total: used({ output_tokens: 5 }), by: {} }, [], /^output_tokens is 5/],
    ['a group that lacks a run', { by: { day: [half({})] } }, [], /^runs is 3, but they have 1$/],
    ['a session too many', { total: used({ sessions: 4 }), by: {} }, [], /^sessions is 4/],
    ['a run that is in no list', {}, [story('x')], /^run x is in no list$/],
    ['a cost that is not that of the result', {}, [story('a', 0.3)], /^0.1 is not the 0.3/],
    ['a cost of a CLI that has asked for nothing', { unmetered: new Set() }, [story('a')], /^0.1 is not the 0 of its result$/],
    ['a usage that is not that of the result', {}, [story('a', 0.1, 4)], /is not the usage of its result$/],
  ])('finds %s', (_what, more, stories, says) => {
    expect(found(more, stories)).toContainEqual(expect.stringMatching(says))
  })
})
