import { describe, expect, it } from 'vitest'
import { Fault } from '../../shared/faults.ts'
import { Refusals } from './refusals.ts'

describe('refusals that nobody heard yet', () => {
  it('are known for half a minute', () => {
    const refusals = new Refusals()
    const fault = new Fault('cwd', 'no such directory')
    refusals.add('run_1', fault, 1_000)
    expect(refusals.find('run_1', 30_999)).toBe(fault)
    expect(refusals.find('run_1', 31_000)).toBeUndefined()
    expect(refusals.find('run_2', 1_000)).toBeUndefined()
  })

  it('are a thousand at most, the newest ones', () => {
    const refusals = new Refusals()
    for (let n = 0; n <= 1_000; n++) refusals.add(`run_${n}`, new Fault('cwd', `${n}`), n)
    expect(refusals.find('run_0', 1_000)).toBeUndefined()
    for (const n of [1, 1_000]) expect(refusals.find(`run_${n}`, 1_000)?.message).toBe(`${n}`)
  })
})
