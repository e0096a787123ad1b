import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { bytesOf, leaving, nextExpiryMs, RECYCLE_BYTES, RECYCLE_TURNS, roomFor, type Kept } from './keep.ts'

const MIB = 1_048_576
const limits = { idleMs: 300_000, budgetBytes: 1_000 * MIB }
const now = 1_000_000
const one = (more: Partial<Kept> = {}): Kept => ({ idleSinceMs: now - 10_000, bytes: 200 * MIB, turns: 1, spare: false, ...more })

const some = fc.array(
  fc.record({
    idleSinceMs: fc.option(fc.integer({ min: now - 400_000, max: now }), { nil: undefined }),
    bytes: fc.integer({ min: 0, max: 600 * MIB }),
    turns: fc.integer({ min: 0, max: RECYCLE_TURNS + 1 }),
    spare: fc.boolean(),
  }),
  { maxLength: 20 },
)

describe('which processes go', () => {
  it('is none while they are few, young and small', () => {
    expect(leaving([one(), one({ spare: true })], limits, now)).toEqual([])
  })

  it('is one that has waited as long as it may, not a moment before', () => {
    const waited = one({ idleSinceMs: now - 300_000 })
    expect(leaving([waited, one({ idleSinceMs: now - 299_999 })], limits, now)).toEqual([waited])
  })

  it('is one that has served its turns or has grown, not at the limit of its size', () => {
    const served = one({ turns: RECYCLE_TURNS })
    const grown = one({ bytes: RECYCLE_BYTES + 1 })
    expect(leaving([served, one({ turns: RECYCLE_TURNS - 1 })], limits, now)).toEqual([served])
    expect(leaving([grown, one({ bytes: RECYCLE_BYTES })], limits, now)).toEqual([grown])
  })

  it('is the one that waited longest where the budget is too small, and a spare before a session of its age', () => {
    const oldest = one({ idleSinceMs: now - 20_000 })
    const [session, spare] = [one(), one({ spare: true })]
    const rest = [one({ idleSinceMs: now }), one({ idleSinceMs: now }), one({ idleSinceMs: now }), one({ idleSinceMs: now })]
    expect(leaving([session, spare, oldest, ...rest.slice(0, 3)], limits, now)).toEqual([oldest])
    expect(leaving([session, spare, oldest, ...rest], limits, now)).toEqual([oldest, spare])
  })

  it('is all that wait where none may', () => {
    const idle = one({ idleSinceMs: now })
    expect(leaving([idle, one({ idleSinceMs: undefined })], { ...limits, idleMs: 0 }, now)).toEqual([idle])
    expect(leaving([idle, one({ idleSinceMs: undefined })], { ...limits, budgetBytes: 0 }, now)).toEqual([idle])
  })

  it('never takes one in a turn, never leaves more than the budget, and never ends one for the budget that a longer waiting one could have left for', () => {
    const property = fc.property(some, fc.integer({ min: 0, max: 2_000 * MIB }), (all, budgetBytes) => {
      const gone = leaving(all, { ...limits, budgetBytes }, now)
      const stay = all.filter((process) => process.idleSinceMs !== undefined && !gone.includes(process))
      expect(gone.every((process) => process.idleSinceMs !== undefined)).toBe(true)
      expect(bytesOf(stay)).toBeLessThanOrEqual(budgetBytes)
      const forBudget = gone.filter((process) => !leaving([process], { ...limits, budgetBytes: Infinity }, now).includes(process))
      const oldestStaying = Math.min(...stay.map((process) => process.idleSinceMs!))
      expect(forBudget.every((process) => process.idleSinceMs! <= oldestStaying)).toBe(true)
      // The last one that went was needed.
      const last = forBudget.at(-1)
      expect(last === undefined || bytesOf(stay) + last.bytes > budgetBytes).toBe(true)
    })
    fc.assert(property)
  })
})

describe('room for a spare', () => {
  const wanted = { bytes: 150 * MIB, waitMs: 60_000 }
  const full = [one(), one(), one(), one({ idleSinceMs: now - 61_000 }), one({ idleSinceMs: now - 90_000, spare: true })]

  it('is there while the budget has it', () => {
    expect(roomFor([one(), one()], limits, wanted, now)).toEqual([])
  })

  it('is made by a process that has waited longer than the spare will, and by no other', () => {
    expect(roomFor(full, limits, wanted, now)).toEqual([full[3]])
    expect(roomFor(full, limits, { ...wanted, waitMs: 70_000 }, now)).toBeUndefined()
    expect(roomFor([one({ idleSinceMs: undefined })], { ...limits, budgetBytes: MIB }, wanted, now)).toBeUndefined()
  })

  it('never puts the rest over the budget, and takes nobody from a turn', () => {
    const property = fc.property(some, fc.integer({ min: 0, max: 300_000 }), (all, waitMs) => {
      const fitting = all.filter((process) => !leaving(all, limits, now).includes(process))
      const gone = roomFor(fitting, limits, { bytes: wanted.bytes, waitMs }, now)
      if (!gone) return
      const stay = fitting.filter((process) => process.idleSinceMs !== undefined && !gone.includes(process))
      expect(gone.every((process) => process.idleSinceMs !== undefined && !process.spare)).toBe(true)
      expect(bytesOf(stay) + wanted.bytes).toBeLessThanOrEqual(limits.budgetBytes)
    })
    fc.assert(property)
  })
})

it('the next to have waited too long is the one that waits already longest', () => {
  expect(nextExpiryMs([one(), one({ idleSinceMs: now - 299_000 })], limits, now)).toBe(1_000)
  expect(nextExpiryMs([one({ idleSinceMs: undefined })], limits, now)).toBeUndefined()
  expect(nextExpiryMs([one({ idleSinceMs: 0 })], limits, now)).toBe(0)
})
