import { beforeEach, describe, expect, it } from 'vitest'
import { kept, MIB, PoolStage, S, settle } from '../../test/kit/pool-stage.ts'
import { PaperResident } from '../../test/kit/residents.ts'
import { WarmPool, type WarmLimits } from './pool.ts'

let stage: PoolStage
let clock: PoolStage['clock']
let told: string[]
let bytes: PoolStage['bytes']
const poolOf = (limits: Partial<WarmLimits> = {}) => stage.poolOf(limits)
beforeEach(() => {
  stage = new PoolStage()
  ;({ clock, told, bytes } = stage)
})

describe('the process of a session', () => {
  it('is there for its next turn, once', async () => {
    const pool = poolOf()
    const resident = await kept(pool)
    expect(pool.view()).toEqual({ processes: 1, spares: 0, memory_bytes: 200 * MIB, budget_bytes: 1_000 * MIB })
    expect(await pool.take('b', 'key', 'main')).toBeUndefined()
    expect(await pool.take('a', 'key', 'main')).toBe(resident)
    expect(pool.view()).toMatchObject({ processes: 0, memory_bytes: 0 })
    expect(pool.markers).toEqual([resident.marker])
  })

  it.each([
    ['configuration', 'other', 'main'],
    ['tenant', 'key', 'other'],
  ])('ends before one of another %s may start, and takes what was made for it along', async (_what, key, tenant) => {
    const pool = poolOf()
    const resident = await kept(pool)
    resident.cli.isSlow = true
    let taken: unknown = 'nothing yet'
    const taking = pool.take('a', key, tenant).then((found) => (taken = found))
    await settle()
    expect([resident.cli.cancels, taken]).toEqual([['interrupt'], 'nothing yet'])
    resident.cli.die()
    await taking
    expect([taken, resident.disposed, pool.markers]).toEqual([undefined, 1, []])
  })

  it('is waited for while somebody else has it, and is then his who waited', async () => {
    const pool = poolOf()
    const resident = await kept(pool)
    await pool.take('a', 'key', 'main')
    const next = pool.take('a', 'key', 'main')
    await settle()
    pool.giveBack(resident)
    expect(await next).toBe(resident)
  })

  it('is not handed out when it has died, or when something has happened to it', async () => {
    const pool = poolOf()
    const [dead, tainted] = [await kept(pool, 'a'), await kept(pool, 'b')]
    dead.cli.die()
    tainted.cli.isTainted = true
    expect([await pool.take('a', 'key', 'main'), await pool.take('b', 'key', 'main')]).toEqual([undefined, undefined])
    expect([dead.disposed, tainted.disposed, tainted.cli.isAlive]).toEqual([1, 1, false])
  })

  it('is forgotten when it ends by itself, in its turn or after it, and disposed of once', async () => {
    const pool = poolOf()
    const [idle, busy] = [await kept(pool, 'a'), await kept(pool, 'b')]
    await pool.take('b', 'key', 'main')
    idle.cli.die()
    busy.cli.die()
    await settle()
    pool.giveBack(busy)
    pool.giveBack(idle)
    expect(pool.adopt(idle)).toBe(false)
    await settle()
    expect([pool.view().processes, pool.markers, idle.disposed, busy.disposed, clock.timers]).toEqual([0, [], 1, 1, 0])
  })

  it('ends after it has waited as long as it may, and not while it is taken', async () => {
    const pool = poolOf()
    const [idle, busy] = [await kept(pool, 'a'), await kept(pool, 'b')]
    await pool.take('b', 'key', 'main')
    clock.advance(299 * S)
    await settle()
    expect(idle.cli.isAlive).toBe(true)
    clock.advance(1 * S)
    await settle()
    expect([idle.cli.isAlive, busy.cli.isAlive]).toEqual([false, true])
    pool.giveBack(busy)
    clock.advance(299 * S)
    await settle()
    expect(busy.cli.isAlive).toBe(true)
    // Given back twice it has still waited since the first time.
    pool.giveBack(busy)
    clock.advance(1 * S)
    await settle()
    expect(busy.cli.isAlive).toBe(false)
  })

  it('ends when it has grown while it waited', async () => {
    const pool = poolOf()
    const resident = await kept(pool)
    bytes.set(resident.cli.pid, 401 * MIB)
    clock.advance(30 * S)
    await settle()
    expect(resident.disposed).toBe(1)
  })

  it('ends after a hundred turns', async () => {
    const pool = poolOf()
    const resident = await kept(pool)
    resident.cli.turns = 99
    expect(await pool.take('a', 'key', 'main')).toBe(resident)
    await resident.serve()
    pool.giveBack(resident)
    await settle()
    expect(resident.disposed).toBe(1)
  })

  it('gives way to those that waited less when the budget is used up', async () => {
    const pool = poolOf()
    const all: PaperResident[] = []
    for (const session of ['a', 'b', 'c', 'd', 'e']) {
      all.push(await kept(pool, session))
      clock.advance(1 * S)
    }
    expect(pool.view()).toMatchObject({ processes: 5, memory_bytes: 1_000 * MIB })
    await pool.take('a', 'key', 'main')
    pool.giveBack(all[0]!)
    all.push(await kept(pool, 'f'))
    expect(all.map((resident) => resident.cli.isAlive)).toEqual([true, false, true, true, true, true])
    expect(pool.view().memory_bytes).toBe(1_000 * MIB)
  })

  it('counts as 150 MiB where it cannot be measured', async () => {
    const pool = new WarmPool({
      clock,
      limits: { idleMs: S, budgetBytes: 300 * MIB, spares: 0 },
      memoryOf: (pid) => (pid % 2 === 0 ? Promise.resolve(0) : Promise.reject(new Error('no'))),
      log: () => undefined,
    })
    for (const session of ['a', 'b', 'c']) await kept(pool, session)
    expect(pool.view()).toMatchObject({ processes: 2, memory_bytes: 300 * MIB })
  })

  it.each([{ idleMs: 0 }, { budgetBytes: 0 }])('is not kept at all where the owner says %j', async (limits) => {
    const pool = poolOf(limits)
    const resident = new PaperResident('a')
    expect(pool.adopt(resident)).toBe(false)
    await resident.serve()
    pool.giveBack(resident)
    await settle()
    expect([resident.cli.isAlive, resident.disposed]).toEqual([false, 1])
  })

  it('may be given back without having been adopted, and is only one of its session', async () => {
    const pool = poolOf()
    const [first, second] = [await kept(pool), new PaperResident('a')]
    expect(pool.adopt(second)).toBe(false)
    pool.giveBack(second)
    await settle()
    expect([second.disposed, await pool.take('a', 'key', 'main')]).toEqual([1, first])
    const third = new PaperResident('b')
    pool.giveBack(third)
    expect(await pool.take('b', 'key', 'main')).toBe(third)
  })

  it('ends when its configuration is no longer what it was: at once if it waits, else when it comes back', async () => {
    const pool = poolOf()
    const [idle, busy, other] = [await kept(pool, 'a'), await kept(pool, 'b'), await kept(pool, 'c', 'other')]
    await pool.take('b', 'key', 'main')
    pool.retire(({ key }) => key === 'key')
    await settle()
    expect([idle.cli.isAlive, busy.cli.isAlive, other.cli.isAlive]).toEqual([false, true, true])
    pool.giveBack(busy)
    await settle()
    expect([busy.disposed, pool.view().processes]).toEqual([1, 1])
  })
})

describe('the end of the pool', () => {
  it('drains: what waits ends, what comes back ends, nothing is kept or started', async () => {
    const pool = poolOf()
    const [idle, busy] = [await kept(pool, 'a'), await kept(pool, 'b')]
    await pool.take('b', 'key', 'main')
    pool.drain()
    await settle()
    expect([idle.disposed, busy.disposed, pool.adopt(new PaperResident('c'))]).toEqual([1, 0, false])
    for (let i = 0; i < 9; i++) pool.wanted('key', () => Promise.reject(new Error('not wanted')))
    clock.advance(S)
    pool.giveBack(busy)
    await settle()
    expect([busy.disposed, clock.timers, told]).toEqual([1, 0, []])
  })

  it('closes when nothing is left of them, be they taken, ending or starting', async () => {
    const pool = poolOf()
    const [slow, busy] = [await kept(pool, 'a'), await kept(pool, 'b')]
    slow.cli.isSlow = true
    await pool.take('b', 'key', 'main')
    let done: (spare: PaperResident) => void = () => undefined
    for (let i = 0; i < 6; i++) pool.wanted('key', () => new Promise((resolve) => (done = resolve)))
    clock.advance(250)
    let closed = false
    const closing = pool.close().then(() => (closed = true))
    const spare = new PaperResident('s')
    await settle()
    expect(closed).toBe(false)
    done(spare)
    await settle()
    expect(closed).toBe(false)
    slow.cli.die()
    await closing
    expect([slow.disposed, busy.disposed, spare.disposed, pool.markers, clock.timers]).toEqual([1, 1, 1, [], 0])
  })

  it('closes when a spare that was starting has come and gone', async () => {
    const pool = poolOf()
    let done: (spare: PaperResident) => void = () => undefined
    for (let i = 0; i < 2; i++) pool.wanted('key', () => new Promise((resolve) => (done = resolve)))
    clock.advance(250)
    let closed = false
    const closing = pool.close().then(() => (closed = true))
    await settle()
    expect(closed).toBe(false)
    const spare = new PaperResident('s')
    done(spare)
    await closing
    expect(spare.disposed).toBe(1)
  })

  it('ends what outlived the cancel of its turn when it comes back', async () => {
    const pool = poolOf()
    const resident = new PaperResident('a')
    resident.cli.outlivesCancel = true
    pool.adopt(resident)
    const turn = resident.cli.turn('', { line: () => 0, batch: () => undefined, mark: () => undefined }, { stay: true })
    const closing = pool.close()
    await turn
    expect(resident.cli.isAlive).toBe(true)
    pool.giveBack(resident)
    await closing
    expect(resident.disposed).toBe(1)
  })

  it('says what could not be disposed of, and goes on', async () => {
    const pool = poolOf()
    const resident = await kept(pool)
    resident.dispose = () => Promise.reject(new Error('no'))
    await pool.close()
    expect([told, pool.markers]).toEqual([['what was made for a CLI that has ended stays'], []])
  })
})
