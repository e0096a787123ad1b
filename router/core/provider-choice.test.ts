import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Breaker } from './breaker.ts'
import { askedFor, fitting, lineUp, MAX_LINE, planOf, serves, smooth, standing, type Ask, type Option } from './provider-choice.ts'

const NOW = 1_000
const option = (id: string, more: Partial<Option> = {}): Option => ({
  id,
  baseUrl: `https://${id}.example.com`,
  env: {},
  models: null,
  modelMap: {},
  pools: null,
  weight: 1,
  enabled: true,
  ...more,
})
const breaker = (provider: string, more: Partial<Breaker> = {}): Breaker => ({ provider, model: '', state: 'open', openUntil: NOW + 10, probeUntil: null, ...more })
const ask: Ask = { now: NOW, model: undefined, bound: undefined, taken: new Set() }
const line = { now: NOW, model: undefined, taken: new Set<string>(), failover: true, turn: 0 }
const ids = (options: readonly Option[]) => options.map((o) => o.id)

describe('taking turns by weight', () => {
  const someWeights = fc.array(fc.integer({ min: 1, max: 10 }), { minLength: 1, maxLength: 12 })
  const sequence = (weights: number[], from: number, turns: number) => Array.from({ length: turns }, (_, i) => smooth(weights, from + i))
  const times = (of: number[], who: number) => of.filter((i) => i === who).length

  it('spreads the turns of one over the period, without bursts', () => {
    expect(sequence([3, 1], 0, 8)).toEqual([0, 0, 1, 0, 0, 0, 1, 0])
    expect(sequence([5, 1, 1], 0, 7)).toEqual([0, 0, 1, 0, 2, 0, 0])
    expect(sequence([10, 10], 0, 4)).toEqual([0, 1, 0, 1])
  })

  it('gives each its exact share of any hundred turns where the weights divide them', () => {
    const dividing = someWeights.filter((weights) => 100 % weights.reduce((a, b) => a + b) === 0)
    fc.assert(
      fc.property(dividing, fc.nat(100_000), (weights, from) => {
        const chosen = sequence(weights, from, 100)
        const sum = weights.reduce((a, b) => a + b)
        for (const [i, weight] of weights.entries()) expect(times(chosen, i)).toBe((100 * weight) / sum)
      }),
    )
  })

  it('is never two turns away from its share of any hundred, and for two providers never one', () => {
    fc.assert(
      fc.property(someWeights, fc.nat(100_000), (weights, from) => {
        const chosen = sequence(weights, from, 100)
        const sum = weights.reduce((a, b) => a + b)
        for (const [i, weight] of weights.entries()) {
          expect(Math.abs(times(chosen, i) - (100 * weight) / sum)).toBeLessThan(weights.length <= 2 ? 1 : 2)
        }
      }),
      { numRuns: 300 },
    )
  })
})

describe('who may pay for a run', () => {
  it('is nobody who is disabled, kept from its pool or without its model, and it is said why', () => {
    const off = option('off', { enabled: false })
    const gpu = option('gpu', { pools: ['gpu'] })
    const small = option('small', { models: ['haiku'] })
    expect(fitting([off], 'default', undefined)).toEqual({ ok: false, why: 'every provider is disabled' })
    expect(fitting([off, gpu], 'default', undefined)).toEqual({ ok: false, why: 'no provider may be used by the pool default' })
    expect(fitting([off, gpu, small], 'default', 'opus')).toEqual({ ok: false, why: 'no provider serves the model opus' })
    expect(fitting([off, gpu, small], 'default', 'haiku')).toEqual({ ok: true, fit: [small] })
    expect(fitting([off, gpu, small], 'gpu', 'opus')).toEqual({ ok: true, fit: [gpu] })
    expect(fitting([off, gpu, small], 'gpu', undefined)).toEqual({ ok: true, fit: [gpu, small] })
  })

  it('knows a model by its alias, with or without the size of its window, and by the map', () => {
    const provider = option('p', {
      models: ['glm-4.7'],
      env: { ANTHROPIC_DEFAULT_OPUS_MODEL: 'glm-4.7', ANTHROPIC_MODEL: 'glm-4.7' },
      modelMap: { 'claude-sonnet-4-6': 'glm-air' },
    })
    for (const model of ['opus', 'opus[1m]', 'glm-4.7', 'claude-sonnet-4-6', 'claude-sonnet-4-6[1m]']) expect(serves(provider, model)).toBe(true)
    for (const model of ['sonnet', 'glm-air', 'constructor', '__proto__']) expect(serves(provider, model)).toBe(false)
    expect(['opus[1m]', 'claude-sonnet-4-6', 'haiku', 'constructor'].map((m) => askedFor(provider, m))).toEqual(['glm-4.7', 'glm-air', 'haiku', 'constructor'])
    expect(askedFor(provider, undefined)).toBe('glm-4.7')
    expect(askedFor(option('q'), undefined)).toBeUndefined()
  })
})

describe('choosing a provider', () => {
  const a = option('a', { weight: 3 })
  const b = option('b')

  it('stays with the provider of the session while it is well', () => {
    expect(planOf([a, b], [], { ...ask, bound: 'b' })).toEqual({ by: 'bound', first: b })
    expect(planOf([a, b], [breaker('b')], { ...ask, bound: 'b' })).toEqual({ by: 'only', first: a })
    expect(planOf([a, b], [], { ...ask, bound: 'gone' })).toEqual({ by: 'turn', among: [a, b] })
  })

  it('passes by who is open, and lets one run try who is due', () => {
    expect(planOf([a, b], [breaker('a')], ask)).toEqual({ by: 'only', first: b })
    expect(planOf([a, b], [breaker('a', { openUntil: NOW })], ask)).toEqual({ by: 'probe', first: a })
    expect(planOf([a, b], [breaker('a', { openUntil: NOW })], { ...ask, taken: new Set(['a']) })).toEqual({ by: 'only', first: b })
    expect(planOf([a, b], [breaker('a', { openUntil: NOW })], { ...ask, bound: 'b' })).toEqual({ by: 'bound', first: b })
  })

  it('takes the least bad when all are open: the soonest, and before all who is being tried', () => {
    expect(planOf([a, b], [breaker('a', { openUntil: null }), breaker('b', { openUntil: NOW + 99_999 })], ask)).toEqual({ by: 'degraded', first: b })
    expect(planOf([a, b], [breaker('a'), breaker('b', { openUntil: NOW + 5 })], ask)).toEqual({ by: 'degraded', first: b })
    const tried = [breaker('a', { openUntil: NOW - 5 }), breaker('b', { openUntil: NOW + 1 })]
    expect(planOf([a, b], tried, { ...ask, taken: new Set(['a']) })).toEqual({ by: 'degraded', first: a })
  })

  it('counts the breaker of a model for runs of that model only', () => {
    const open = [breaker('a', { model: 'claude-opus-4-8' })]
    const mapped = option('a', { modelMap: { opus: 'claude-opus-4-8' } })
    expect(planOf([a, b], open, { ...ask, model: 'claude-opus-4-8' })).toEqual({ by: 'only', first: b })
    expect(planOf([mapped, b], open, { ...ask, model: 'opus' })).toEqual({ by: 'only', first: b })
    expect(planOf([a, b], open, { ...ask, model: 'haiku' })).toEqual({ by: 'turn', among: [a, b] })
    expect(planOf([a, b], open, ask)).toEqual({ by: 'turn', among: [a, b] })
  })
})

describe('failing over', () => {
  const a = option('a', { env: { X: '1', Y: '2' } })
  const same = option('same', { env: { Y: '2', X: '1' } })
  const other = option('other', { env: { X: '9' } })
  const mapped = option('mapped', { env: { X: '9' }, modelMap: { opus: 'big' } })
  const local = option('local', { baseUrl: null })

  it('goes to those with the same environment or a map of models, and to nobody when it is off', () => {
    expect(ids(lineUp(a, [a, same, other, mapped, local], [], line)).toSorted()).toEqual(['a', 'mapped', 'same'])
    expect(ids(lineUp(a, [a, same], [], { ...line, failover: false }))).toEqual(['a'])
  })

  it('goes to nobody under another environment who does not know the model that the CLI will ask for', () => {
    const listed = option('listed', { env: { X: '9' }, models: ['opus'] })
    const renamed = option('renamed', { env: { X: '9', ANTHROPIC_DEFAULT_OPUS_MODEL: 'glm-5' }, models: ['opus'] })
    const full = option('full', { env: { X: '9' }, modelMap: { 'claude-opus-4-8': 'big' } })
    const all = [a, mapped, listed, renamed, full]
    const behind = (first: Option, model: string | undefined) => ids(lineUp(first, all, [], { ...line, model }).slice(1)).toSorted()
    expect(behind(a, 'claude-opus-4-8')).toEqual(['full', 'listed'])
    expect(behind(a, 'opus')).toEqual(['full', 'listed', 'mapped', 'renamed'])
    expect(behind(a, 'haiku')).toEqual([])
    expect(behind(option('b', { env: { ANTHROPIC_MODEL: 'claude-opus-4-8' } }), undefined)).toEqual(['full', 'listed'])
    expect(behind(a, undefined)).toEqual(['full', 'mapped'])
  })

  it('gives each of many its place in turn, and counts the same few steps for any number of them', () => {
    const many = Array.from({ length: 400 }, (_, i) => option(`p${i}`, { weight: 1 + (i % 10) }))
    let reads = 0
    const counted = many.map((o) => Object.defineProperty({ ...o }, 'weight', { get: () => (reads++, o.weight) }))
    const seen = new Set<string>()
    for (let turn = 0; turn < 400; turn += 10) for (const id of ids(lineUp(counted[0]!, counted, [], { ...line, turn }))) seen.add(id)
    expect(seen.size).toBe(400)
    expect(reads / 40).toBeLessThan(31 * 32)
  })

  it('does not mind what of the environment is for the gateway only', () => {
    const blank = option('blank', { env: { X: '1', Y: '2', ANTHROPIC_API_KEY: '', ANTHROPIC_CUSTOM_HEADERS: 'x-org: 1' } })
    expect(ids(lineUp(a, [a, blank], [], line))).toEqual(['a', 'blank'])
    expect(ids(lineUp(blank, [a, blank], [], line))).toEqual(['blank', 'a'])
  })

  it('never leaves or enters the login of a machine', () => {
    expect(ids(lineUp(local, [option('a'), local, option('b')], [], line))).toEqual(['local'])
    expect(ids(lineUp(option('a'), [option('a'), local], [], line))).toEqual(['a'])
  })

  it('asks who is well before who is open, the soonest of these first', () => {
    const all = ['a', 'b', 'c', 'd', 'e'].map((id) => option(id))
    const open = [breaker('b', { openUntil: null }), breaker('c', { openUntil: NOW + 50 }), breaker('d', { openUntil: NOW + 5 })]
    expect(ids(lineUp(all[0]!, all, open, line))).toEqual(['a', 'e', 'd', 'c', 'b'])
  })

  it('does not always fall on the same one', () => {
    const all = ['a', 'b', 'c'].map((id) => option(id))
    const second = [0, 1, 2, 3].map((turn) => lineUp(all[0]!, all, [], { ...line, turn })[1]?.id)
    expect(second).toEqual(['b', 'c', 'b', 'c'])
  })
})

describe('any choice', () => {
  const someId = fc.constantFrom('a', 'b', 'c', 'd', 'e')
  const someOptions = fc
    .uniqueArray(
      fc.record({
        id: someId,
        baseUrl: fc.constantFrom('https://x.example.com', null),
        env: fc.constantFrom<Record<string, string>>({}, { X: '1' }),
        models: fc.constantFrom(null, ['m']),
        modelMap: fc.constantFrom<Record<string, string>>({}, { m: 'n' }),
        pools: fc.constantFrom(null, ['default'], ['gpu']),
        weight: fc.integer({ min: 1, max: 10 }),
        enabled: fc.boolean(),
      }),
      { selector: (o) => o.id },
    )
    .map((list): Option[] => list)
  const someBreakers = fc.uniqueArray(
    fc.record({
      provider: someId,
      model: fc.constantFrom('', 'm', 'n'),
      state: fc.constantFrom('closed' as const, 'open' as const, 'half_open' as const),
      openUntil: fc.constantFrom(null, NOW - 1, NOW, NOW + 1, NOW + 9),
      probeUntil: fc.constantFrom(null, NOW - 1, NOW + 5),
    }),
    { selector: (b) => `${b.provider}/${b.model}` },
  )
  const someAsk = fc.record({
    now: fc.constant(NOW),
    model: fc.constantFrom(undefined, 'm', 'n'),
    bound: fc.option(someId, { nil: undefined }),
    taken: fc.subarray(['a', 'b', 'c', 'd', 'e']).map((list) => new Set(list)),
  })

  it('is of providers that are enabled and fit, open ones only when all are, each once', () => {
    fc.assert(
      fc.property(someOptions, someBreakers, someAsk, fc.nat(), fc.boolean(), (options, breakers, want, turn, failover) => {
        const fitted = fitting(options, 'default', want.model)
        const allowed = options.filter((o) => o.enabled && (o.pools === null || o.pools.includes('default')) && serves(o, want.model))
        expect(fitted.ok ? fitted.fit : []).toEqual(allowed)
        if (!fitted.ok) return
        const plan = planOf(fitted.fit, breakers, want)
        const first = plan.by === 'turn' ? plan.among[smooth(plan.among.map((o) => o.weight), turn)]! : plan.first
        const stands = (o: Option) => standing(o, breakers, want).is
        const isAnyBetter = allowed.some((o) => stands(o) !== 'open')
        expect(plan.by === 'degraded').toBe(!isAnyBetter)
        expect(stands(first)).toBe(plan.by === 'degraded' ? 'open' : plan.by === 'probe' ? 'due' : 'closed')
        expect(plan.by === 'probe' && want.taken.has(first.id)).toBe(false)
        const order = lineUp(first, fitted.fit, breakers, { ...want, failover, turn })
        expect(order[0]).toBe(first)
        expect(new Set(ids(order)).size).toBe(order.length)
        expect(order.every((o) => allowed.includes(o))).toBe(true)
        const behind = order.slice(1).map((o) => stands(o) === 'closed')
        expect(behind.lastIndexOf(true)).toBeLessThan(behind.includes(false) ? behind.indexOf(false) : behind.length)
      }),
      { numRuns: 1_000 },
    )
  })

  it('names no more providers than a grant holds', () => {
    const many = Array.from({ length: 100 }, (_, i) => option(`p${i}`))
    expect(lineUp(many[7]!, many, [], line)).toHaveLength(MAX_LINE)
  })
})
