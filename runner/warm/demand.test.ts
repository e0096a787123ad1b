import { describe, expect, it } from 'vitest'
import { Demand } from './demand.ts'
import { ESTIMATED_BYTES } from './keep.ts'

function opened(...at: number[]): Demand {
  const demand = new Demand()
  for (const ms of at) demand.opened('a', ms)
  return demand
}

describe('the demand for a configuration', () => {
  it('is worth a spare from the second run on, and two from the sixth', () => {
    const counts = [1, 2, 3, 4, 5, 6, 7].map((runs) => opened(...Array.from({ length: runs }, (_, i) => i)).spares('a', 10))
    expect(counts).toEqual([0, 1, 1, 1, 1, 2, 2])
  })

  it('is forgotten after ten minutes, and is each its own', () => {
    const demand = opened(0, 1_000)
    expect([demand.spares('a', 599_999), demand.spares('a', 600_000), demand.spares('b', 1_000)]).toEqual([1, 0, 0])
  })

  it('is none for a minute after a spare could not be started', () => {
    const demand = opened(0, 1)
    demand.failed('a', 10)
    demand.opened('a', 20)
    expect([demand.spares('a', 60_009), demand.spares('a', 60_010)]).toEqual([0, 1])
  })

  it('says how long a spare will wait, and how large it will be', () => {
    expect(opened(0, 10, 20, 30, 40).spare('a', 60)).toEqual({ waitMs: 120_000, bytes: ESTIMATED_BYTES })
    const demand = opened(0, 10, 20, 30, 40, 50)
    expect(demand.spare('a', 60)).toEqual({ waitMs: 10, bytes: ESTIMATED_BYTES })
    demand.measured('a', 7)
    demand.measured('b', 7)
    expect([demand.spare('a', 60).bytes, demand.spare('b', 60).bytes]).toEqual([7, ESTIMATED_BYTES])
  })

  it('is known of 64 configurations, and the one that was longest not opened is forgotten', () => {
    const demand = opened(0, 1)
    for (let i = 0; i < 63; i++) demand.opened(`b${i}`, 2)
    demand.failed('unknown', 2)
    expect([demand.size, demand.spares('a', 3)]).toEqual([64, 1])
    demand.opened('c', 3)
    expect([demand.size, demand.spares('a', 3)]).toEqual([64, 0])
  })
})
