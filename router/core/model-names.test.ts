import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { bare } from '../../shared/model-names.ts'
import { both, covers } from './model-names.ts'

const GLM = { ANTHROPIC_DEFAULT_OPUS_MODEL: 'glm-5[1m]' }

describe('a name of a model', () => {
  it.each<[string, string, Record<string, string>, boolean]>([
    ['claude-opus-4-8', 'claude-opus-4-8[1m]', {}, true],
    ['opus[1m]', 'claude-opus-4-8', {}, true],
    ['opus', 'opus', GLM, true],
    ['opus', 'glm-5', GLM, true],
    ['opus', 'claude-opus-4-8', GLM, false],
    ['opusplan', 'claude-sonnet-4-6', {}, true],
    ['opusplan', 'opus', {}, true],
    ['opusplan', 'claude-haiku-4-5', {}, false],
    ['sonnet', 'claude-opus-4-8', {}, false],
    ['claude-sonnet-4-5', 'sonnet', {}, false],
    ['opus', 'my-opus', {}, false],
    ['opus', 'claude-opusculum', {}, false],
    ['constructor', '__proto__', {}, false],
  ])('%s covers %s: with %j it is %s', (name, model, env, expected) => {
    expect(covers(name, model, env)).toBe(expected)
  })

  it('is on the common list when both lists cover it, and nothing else is', () => {
    const name = fc.constantFrom('opus', 'sonnet', 'haiku', 'opusplan', 'glm-5', 'claude-opus-4-8', 'claude-sonnet-4-5', 'opus[1m]')
    const list = fc.option(fc.uniqueArray(name), { nil: null })
    fc.assert(
      fc.property(list, list, fc.constantFrom({}, GLM), (ours, theirs, env) => {
        const common = both(ours, theirs, env)
        expect(common === null).toBe(ours === null && theirs === null)
        const allows = (names: string[] | null, model: string) => names === null || names.some((one) => covers(one, model, env))
        for (const model of ['claude-opus-4-8', 'claude-sonnet-4-5', 'claude-haiku-4-5', 'glm-5']) {
          expect(allows(common, model)).toBe(allows(ours, model) && allows(theirs, model))
        }
        for (const one of common ?? []) expect([ours, theirs].some((names) => names?.map(bare).includes(bare(one)))).toBe(true)
      }),
      { numRuns: 2_000 },
    )
  })
})
