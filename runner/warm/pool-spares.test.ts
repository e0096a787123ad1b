import { beforeEach, describe, expect, it } from 'vitest'
import { kept, MIB, PoolStage, S, settle } from '../../test/kit/pool-stage.ts'
import { PaperResident } from '../../test/kit/residents.ts'
import { until } from '../../test/kit/wait.ts'
import type { WarmLimits, WarmPool } from './pool.ts'

let stage: PoolStage
let clock: PoolStage['clock']
let told: string[]
const poolOf = (limits: Partial<WarmLimits> = {}) => stage.poolOf(limits)
beforeEach(() => {
  stage = new PoolStage()
  ;({ clock, told } = stage)
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
    expect([pool.view().processes, pool.view().spares, pool.takeSpare('key', 'main')]).toEqual([2, 0, undefined])
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
    expect([starts.length, old.disposed, pool.view().processes]).toEqual([1, 1, 1])
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

  it('are no more than were wanted when they come out as another configuration', async () => {
    const pool = stage.poolOf()
    ask(pool, 6)
    clock.advance(250)
    const other = new PaperResident('spare', 'another key')
    starts.pop()!.done(other)
    await settle()
    expect([other.cli.cancels.length, other.disposed, pool.view().spares]).toEqual([1, 1, 0])
    clock.advance(10 * S)
    await settle()
    expect(starts).toEqual([])
  })
})
