import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Fault } from '../../shared/faults.ts'
import { PermissionMode, type CliOptions } from '../../shared/run-spec.ts'
import type { Narrowing } from '../../shared/tenant-settings.ts'
import { narrowedCli, poolOf, refusePool } from './narrow.ts'

const refusal = (work: () => unknown): Record<string, unknown> | undefined => {
  try {
    work()
  } catch (error) {
    if (error instanceof Fault) return { code: error.code, message: error.message, ...error.extra }
    throw error
  }
  return undefined
}

describe('a token without limits', () => {
  it('leaves a run as it was asked for', () => {
    const cli: CliOptions = { model: 'opus', agents: { a: { model: 'haiku', permissionMode: 'plan' } } }
    expect(narrowedCli({}, cli)).toEqual(cli)
    expect(narrowedCli({}, {})).toEqual({})
    expect([poolOf({}, undefined), poolOf({}, 'gpu')]).toEqual(['default', 'gpu'])
  })
})

describe('a token for some pools', () => {
  it('names the others in its refusal, and what is allowed', () => {
    expect(refusal(() => poolOf({ pools: ['gpu', 'cpu'] }, 'default'))).toEqual({
      code: 'forbidden',
      message: 'pool: the token allows gpu, cpu',
      field: 'pool',
      allowed: ['gpu', 'cpu'],
    })
    expect(refusal(() => refusePool({ pools: [] }, 'gpu'))).toMatchObject({ message: 'pool: the token allows none at all' })
  })

  it('fills in one where none is asked for: the usual one if it may, else its first', () => {
    expect(poolOf({ pools: ['gpu'] }, undefined)).toBe('gpu')
    expect(poolOf({ pools: ['gpu', 'default'] }, undefined)).toBe('default')
    expect(refusal(() => poolOf({ pools: [] }, undefined))).toMatchObject({ field: 'pool' })
  })
})

describe('a token for some models', () => {
  const narrowing: Narrowing = { models: ['sonnet', 'haiku'] }

  it.each<[string, CliOptions]>([
    ['model', { model: 'opus' }],
    ['fallback_model', { model: 'haiku', fallback_model: 'opus' }],
    ['agents.reviewer.model', { agents: { reviewer: { model: 'opus' } } }],
    ['agents.reviewer.model', { agents: { reviewer: { model: ['sonnet'] } } }],
  ])('refuses %s of %j', (field, cli) => {
    expect(refusal(() => narrowedCli(narrowing, cli))).toMatchObject({ code: 'forbidden', field, allowed: ['sonnet', 'haiku'] })
  })

  it('takes its first where none is asked for, so that the machine does not choose', () => {
    expect(narrowedCli(narrowing, {}).model).toBe('sonnet')
    expect(narrowedCli(narrowing, { model: 'haiku', fallback_model: 'sonnet', agents: { a: { model: 'inherit' }, b: {} } }).model).toBe('haiku')
    expect(refusal(() => narrowedCli({ models: [] }, {}))).toMatchObject({ field: 'model', allowed: [] })
  })
})

describe('a token for some permission modes', () => {
  it('holds agents to them too', () => {
    const narrowing: Narrowing = { permission_modes: ['plan', 'default'] }
    expect(refusal(() => narrowedCli(narrowing, { permission_mode: 'acceptEdits' }))).toMatchObject({ field: 'permission_mode' })
    expect(refusal(() => narrowedCli(narrowing, { agents: { a: { permissionMode: 'bypassPermissions' } } }))).toMatchObject({ field: 'agents.a.permissionMode' })
    expect(narrowedCli(narrowing, { agents: { a: { permissionMode: 'plan' } } }).permission_mode).toBe('default')
    expect(narrowedCli({ permission_modes: ['plan'] }, {}).permission_mode).toBe('plan')
  })
})

describe('whatever is asked for', () => {
  const models: fc.Arbitrary<string> = fc.constantFrom('opus', 'sonnet', 'haiku')
  const cli: fc.Arbitrary<CliOptions> = fc.record(
    {
      model: models,
      fallback_model: models,
      permission_mode: fc.constantFrom(...PermissionMode.options),
      agents: fc.dictionary(fc.constantFrom('a', 'b', '__proto__'), fc.record({ model: models, permissionMode: fc.constantFrom(...PermissionMode.options) }, { requiredKeys: [] })),
    },
    { requiredKeys: [] },
  )
  const narrowing = fc.record({ models: fc.uniqueArray(models), permission_modes: fc.uniqueArray(fc.constantFrom(...PermissionMode.options)) }, { requiredKeys: [] })

  it('what comes out is within the token, or nothing comes out', () => {
    const kept = fc.property(narrowing, cli, (limits, asked) => {
      let given: CliOptions
      try {
        given = narrowedCli(limits, asked)
      } catch (error) {
        return error instanceof Fault && error.code === 'forbidden'
      }
      const agents = Object.values(given.agents ?? {})
      const used = [given.model, ...(given.fallback_model === undefined ? [] : [given.fallback_model]), ...agents.map((agent) => agent['model'] ?? given.model)]
      const modes = [given.permission_mode, ...agents.map((agent) => agent['permissionMode'] ?? given.permission_mode)]
      return used.every((model) => !limits.models || limits.models.some((one) => one === model)) && modes.every((mode) => !limits.permission_modes || limits.permission_modes.includes(mode as PermissionMode))
    })
    expect(() => fc.assert(kept)).not.toThrow()
  })
})
