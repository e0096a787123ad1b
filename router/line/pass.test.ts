import { describe, expect, it } from 'vitest'
import type { Candidate } from '../core/placement.ts'
import { Pass } from './pass.ts'

const runner: Candidate = { id: 'rnr_1', pool: 'default', labels: {}, slots: 1, busy: 0, draining: false }
const wish = { tenant: 't', pool: 'default', labels: {}, bound: undefined, needs: {} }
const newPass = () => new Pass({ connected: () => [runner], underWay: () => 0 }, () => 0)

describe('one look at the fleet', () => {
  it('gives each slot once', () => {
    const pass = newPass()
    expect(pass.place({ ...wish, tried: new Set(), full: new Set() })).toEqual({ ok: true, runner: 'rnr_1' })
    pass.give('rnr_1')
    expect(pass.place({ ...wish, tried: new Set(), full: new Set() })).toEqual({ ok: false, why: 'all_busy' })
  })

  it('asks a runner again that did not answer, when there is no other, but not one that has just said that it is full', () => {
    const tried = new Set(['rnr_1'])
    expect(newPass().place({ ...wish, tried, full: new Set() })).toEqual({ ok: true, runner: 'rnr_1' })
    expect(tried.size).toBe(0)
    expect(newPass().place({ ...wish, tried: new Set(), full: new Set(['rnr_1']) })).toEqual({ ok: false, why: 'all_busy' })
  })

  it('keeps a slot from whoever is behind the one that was refused it', () => {
    const pass = newPass()
    pass.hold('rnr_1')
    expect(pass.place({ ...wish, tried: new Set(), full: new Set() })).toEqual({ ok: false, why: 'all_busy' })
    expect(pass.hasRoom('t')).toBe(false)
  })
})
