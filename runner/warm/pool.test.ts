import { beforeEach, describe, expect, it } from 'vitest'
import { TestClock } from '../../test/kit/clock.ts'
import { PaperResident } from '../../test/kit/residents.ts'
import { until } from '../../test/kit/wait.ts'
import { WarmPool, type WarmLimits } from './pool.ts'

const MIB = 1_048_576
const S = 1_000
/** Whatever is due without time passing has happened. */
const settle = () => new Promise((resolve) => setImmediate(resolve))

let clock: TestClock
let told: string[]
/** What a process has, by its pid; else 200 MiB. */
let bytes: Map<number, number>
beforeEach(() => {
  clock = new TestClock()
  told = []
  bytes = new Map()
})

function poolOf(limits: Partial<WarmLimits> = {}): WarmPool {
  return new WarmPool({
    clock,
    limits: { idleMs: 300 * S, budgetBytes: 1_000 * MIB, spares: 2, ...limits },
    memoryOf: async (pid) => bytes.get(pid) ?? 200 * MIB,
    log: (message) => told.push(message),
  })
}

/** A process that has had a turn and waits for the next. */
async function kept(pool: WarmPool, session = 'a', key = 'key', tenant = 'main'): Promise<PaperResident> {
  const resident = new PaperResident(session, key, tenant)
  expect(pool.adopt(resident)).toBe(true)
  await resident.serve()
  pool.giveBack(resident)
  await settle()
  return resident
}

describe('the process of a session', () => {
  it('is there for its next turn, once', async () => {
    const pool = poolOf()
    const resident = await kept(pool)
    expect(pool.view()).toEqual({ warm: 1, spares: 0, memory_bytes: 200 * MIB, budget_bytes: 1_000 * MIB })
    expect(await pool.take('b', 'key', 'main')).toBeUndefined()
    expect(await pool.take('a', 'key', 'main')).toBe(resident)
    expect(pool.view()).toMatchObject({ warm: 0, memory_bytes: 0 })
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
    expect([pool.view().warm, pool.markers, idle.disposed, busy.disposed, clock.timers]).toEqual([0, [], 1, 1, 0])
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
    expect(pool.view()).toMatchObject({ warm: 5, memory_bytes: 1_000 * MIB })
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
    expect(pool.view()).toMatchObject({ warm: 2, memory_bytes: 300 * MIB })
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
    expect([busy.disposed, pool.view().warm]).toEqual([1, 1])
  })
})

describe('spares', () => {
  /** Starts of spares that are under way. */
  let starts: { signal: AbortSignal; done(spare: PaperResident): void; failed(): void }[]
  beforeEach(() => void (starts = []))
  const make = (signal: AbortSignal): Promise<PaperResident> =>
    new Promise((resolve, reject) => starts.push({ signal, done: resolve, failed: () => reject(new Error('no')) }))
  const ask = (pool: WarmPool, times: number, key = 'key') => {
    for (let i = 0; i < times; i++) pool.wanted(key, make)
  }
  /** So many of them are started and ready. */
  async function ready(pool: WarmPool, count: number, key = 'key'): Promise<PaperResident[]> {
    const spares: PaperResident[] = []
    ask(pool, 6, key)
    while (spares.length < count) {
      clock.advance(250)
      const spare = new PaperResident(`spare-${crypto.randomUUID()}`, key)
      starts.pop()!.done(spare)
      spares.push(spare)
      await settle()
    }
    return spares
  }

  it('are started from the second new session on, when its run is under way', async () => {
    const pool = poolOf()
    ask(pool, 1)
    clock.advance(S)
    ask(pool, 1)
    expect(starts).toHaveLength(0)
    clock.advance(250)
    expect(starts).toHaveLength(1)
    starts[0]!.done(new PaperResident('s'))
    await until('it to be ready', () => pool.view().spares === 1)
    clock.advance(S)
    expect([starts.length, pool.view().memory_bytes]).toEqual([1, 200 * MIB])
  })

  it('are started one after the other, and no more than the owner allows', async () => {
    const pool = poolOf()
    ask(pool, 7)
    ask(pool, 7, 'other')
    clock.advance(S)
    expect(starts).toHaveLength(1)
    for (let i = 0; i < 4; i++) {
      starts.at(-1)!.done(new PaperResident(`s${i}`, i % 2 === 0 ? 'key' : 'other'))
      await settle()
      clock.advance(S)
    }
    expect([starts.length, pool.view().spares]).toEqual([4, 4])
    const few = poolOf({ spares: 1 })
    expect(await ready(few, 1)).toHaveLength(1)
    clock.advance(S)
    expect(starts).toHaveLength(4)
    const none = poolOf({ spares: 0 })
    ask(none, 7)
    clock.advance(S)
    expect(starts).toHaveLength(4)
  })

  it('are given to one session each, of their configuration and their tenant', async () => {
    const pool = poolOf()
    const spares = await ready(pool, 2)
    expect([pool.takeSpare('other', 'main'), pool.takeSpare('key', 'other')]).toEqual([undefined, undefined])
    const taken = [pool.takeSpare('key', 'main'), pool.takeSpare('key', 'main'), pool.takeSpare('key', 'main')]
    expect(taken).toEqual([...spares, undefined])
    await spares[0]!.serve()
    pool.giveBack(spares[0]!)
    pool.giveBack(spares[1]!)
    expect([pool.view().warm, pool.view().spares, pool.takeSpare('key', 'main')]).toEqual([2, 0, undefined])
    expect(await pool.take(spares[1]!.session, 'key', 'main')).toBe(spares[1])
  })

  it('are replaced when they are taken, not when they have died or have waited too long', async () => {
    const pool = poolOf()
    const [first, second] = await ready(pool, 2)
    second!.cli.die()
    await settle()
    clock.advance(300 * S)
    await settle()
    expect([first!.disposed, second!.disposed, starts.length]).toEqual([1, 1, 0])
    ask(pool, 1)
    clock.advance(250)
    expect(starts).toHaveLength(1)
  })

  it('are not tried again for a minute after one could not be started', async () => {
    const pool = poolOf()
    ask(pool, 2)
    clock.advance(250)
    starts.pop()!.failed()
    await settle()
    expect(told).toEqual(['a spare CLI could not be started'])
    ask(pool, 1)
    clock.advance(59 * S)
    expect(starts).toHaveLength(0)
    clock.advance(1 * S)
    ask(pool, 1)
    clock.advance(250)
    expect(starts).toHaveLength(1)
  })

  it('go on being started after a start that threw at once', async () => {
    const pool = poolOf()
    const bad = () => {
      throw new Error('no')
    }
    pool.wanted('key', bad)
    pool.wanted('key', bad)
    clock.advance(250)
    ask(pool, 2, 'other')
    await settle()
    clock.advance(250)
    expect([told.length, starts.length]).toEqual([1, 1])
  })

  it('are not started where there is no room, and take that of a process nobody comes back to', async () => {
    const pool = poolOf({ budgetBytes: 400 * MIB })
    const [old] = [await kept(pool, 'a'), await kept(pool, 'b')] as const
    ask(pool, 2)
    clock.advance(250)
    expect(starts).toHaveLength(0)
    clock.advance(60 * S)
    ask(pool, 4)
    clock.advance(250)
    await settle()
    expect([starts.length, old.disposed, pool.view().warm]).toEqual([1, 1, 1])
  })

  it('are as large as the last one of their configuration', async () => {
    const pool = poolOf({ budgetBytes: 340 * MIB, spares: 2 })
    ask(pool, 6)
    clock.advance(250)
    starts[0]!.done(new PaperResident('s'))
    await settle()
    clock.advance(S)
    // 140 MiB are left, and it turned out to have 200.
    expect([pool.view().spares, starts.length]).toEqual([1, 1])
  })

  it('that are being started when their configuration is no longer what it was end', async () => {
    const pool = poolOf()
    ask(pool, 6)
    clock.advance(250)
    pool.retire(() => false)
    expect(starts[0]!.signal.aborted).toBe(true)
    const late = new PaperResident('s')
    starts[0]!.done(late)
    await settle()
    clock.advance(S)
    expect([late.disposed, starts.length, told]).toEqual([1, 1, []])
    ask(pool, 1)
    clock.advance(250)
    expect(starts).toHaveLength(2)
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
    const turn = resident.cli.turn('', { line: () => 0, mark: () => undefined }, { stay: true })
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
