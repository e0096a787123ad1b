import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { Fault } from '../../shared/faults.ts'
import { watchVisit, whileWelcome } from './watch.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

/** Somebody who is welcome until `refuse` says why not. */
function visitor() {
  let why: Error | undefined
  let asked = 0
  return {
    recheck: () => {
      asked++
      return why ? Promise.reject(why) : Promise.resolve()
    },
    refuse: (error: Error | undefined) => void (why = error),
    asked: () => asked,
  }
}

describe('a visit', () => {
  it('ends within 15 s of a revocation that a replica feels after 5', async () => {
    const { recheck, refuse } = visitor()
    let over: Fault | undefined
    watchVisit(recheck, (why) => void (over = why))
    await vi.advanceTimersByTimeAsync(61_000)
    expect(over).toBeUndefined()
    refuse(new Fault('unauthenticated', 'the token was revoked'))
    await vi.advanceTimersByTimeAsync(10_000)
    expect(over?.message).toBe('the token was revoked')
    expect(vi.getTimerCount()).toBe(0)
  })

  it('goes on while nobody can be asked', async () => {
    const { recheck, refuse } = visitor()
    let over: Fault | undefined
    watchVisit(recheck, (why) => void (over = why))
    for (const trouble of [new Fault('storage'), new Fault('issuer'), new Error('a bug')]) {
      refuse(trouble)
      await vi.advanceTimersByTimeAsync(20_000)
      expect(over).toBeUndefined()
    }
    refuse(new Fault('forbidden'))
    await vi.advanceTimersByTimeAsync(5_000)
    expect(over?.code).toBe('forbidden')
  })

  it('is not looked after once it is over', async () => {
    const { recheck, refuse, asked } = visitor()
    const visit = watchVisit(recheck, () => expect.unreachable())
    refuse(new Fault('unauthenticated'))
    visit.stop()
    await vi.advanceTimersByTimeAsync(60_000)
    expect(asked()).toBe(0)
  })
})

describe('work that takes its time', () => {
  const forever = (signal: AbortSignal) => new Promise<string>((resolve) => signal.addEventListener('abort', () => resolve('cut')))

  it('is cut when the visit ends, and answers why', async () => {
    const { recheck, refuse } = visitor()
    const work = whileWelcome(recheck, new AbortController().signal, forever).catch((error: unknown) => error)
    refuse(new Fault('unauthenticated', 'the token was revoked'))
    await vi.advanceTimersByTimeAsync(5_000)
    expect(await work).toMatchObject({ code: 'unauthenticated', message: 'the token was revoked' })
    expect(vi.getTimerCount()).toBe(0)
  })

  it('keeps its own result and its own failure otherwise, and the signal of its request', async () => {
    const { recheck } = visitor()
    const { signal } = new AbortController()
    expect(await whileWelcome(recheck, signal, () => Promise.resolve('done'))).toBe('done')
    await expect(whileWelcome(recheck, signal, () => Promise.reject(new Fault('busy')))).rejects.toMatchObject({ code: 'busy' })
    const gone = new AbortController()
    const work = whileWelcome(recheck, gone.signal, forever)
    gone.abort()
    expect(await work).toBe('cut')
    expect(vi.getTimerCount()).toBe(0)
  })
})
