import { describe, expect, it } from 'vitest'
import type { LogRow } from '../core/intake.ts'
import { HANDED_BYTES, Wakeups, type Listener } from './wakeups.ts'

const never = () => new AbortController().signal

describe('a wake-up', () => {
  it('reaches everybody who listens to its run, and nobody else', async () => {
    const wakeups = new Wakeups()
    const [a, b, other] = [wakeups.listen('a', never()), wakeups.listen('a', never()), wakeups.listen('b', never())]
    let woken = false
    void other.next().then(() => (woken = true))
    const both = Promise.all([a.next(), b.next()])
    wakeups.wake('a')
    await both
    expect(woken).toBe(false)
  })

  it('is not lost when it comes between listening and waiting', async () => {
    const wakeups = new Wakeups()
    const listener = wakeups.listen('a', never())
    wakeups.wake('a')
    await expect(listener.next()).resolves.toBeUndefined()
  })

  it('that came before the last look, or before anybody listened, is none', async () => {
    const wakeups = new Wakeups()
    wakeups.wake('a')
    const listener = wakeups.listen('a', never())
    wakeups.wake('a')
    listener.take(0)
    let woken = false
    const waiting = listener.next().then(() => (woken = true))
    await Promise.resolve()
    expect(woken).toBe(false)
    wakeups.wake('a')
    await waiting
  })

  it('is not waited for once the reader has left, or once it is over for all', async () => {
    const wakeups = new Wakeups()
    const stop = new AbortController()
    const [leaves, stays] = [wakeups.listen('a', stop.signal), wakeups.listen('a', never())]
    const left = leaves.next()
    stop.abort()
    await left
    expect([leaves.isOver, stays.isOver]).toEqual([true, false])
    const waiting = stays.next()
    wakeups.close()
    await waiting
    for (const listener of [stays, wakeups.listen('a', never()), wakeups.listen('b', stop.signal)]) {
      await listener.next()
      expect(listener.isOver).toBe(true)
    }
  })

  it('does not reach who has stopped listening, and leaves the others theirs', async () => {
    const wakeups = new Wakeups()
    const [gone, there] = [wakeups.listen('a', never()), wakeups.listen('a', never())]
    gone.end()
    gone.end()
    const waiting = there.next()
    wakeups.wake('a')
    await expect(waiting).resolves.toBeUndefined()
    there.end()
    const late = wakeups.listen('a', never())
    there.end()
    wakeups.wake('a')
    await expect(late.next()).resolves.toBeUndefined()
  })
})

describe('what is handed over', () => {
  const row = (first: number, count = 1, more: Partial<LogRow> = {}): LogRow => {
    return { first, part: 0, parts: 1, count, kind: 'ev', bytes: new TextEncoder().encode('{}\n'.repeat(count)), ...more }
  }
  const handed = (...rows: LogRow[]): Listener => {
    const wakeups = new Wakeups()
    const listener = wakeups.listen('a', never())
    wakeups.listen('b', never())
    for (const one of rows) wakeups.handOver('a', [one])
    return listener
  }
  const firsts = (listener: Listener, after: number) => listener.take(after).map(({ first }) => first)

  it('is what follows the cursor, once', () => {
    const listener = handed(row(1, 2), row(3), row(4, 3, { kind: 'mark' }))
    expect(firsts(listener, 2)).toEqual([3, 4])
    expect(firsts(listener, 2)).toEqual([])
  })

  it('is nothing for a cursor that stands before it, or within it', () => {
    expect(firsts(handed(row(5)), 3)).toEqual([])
    expect(firsts(handed(row(1, 4)), 2)).toEqual([])
  })

  it('is nothing when something is missing in between, or is a part of a line', () => {
    expect(firsts(handed(row(1), row(3)), 0)).toEqual([])
    expect(firsts(handed(row(1), row(2, 1, { kind: 'part', parts: 2 }), row(3)), 0)).toEqual([])
  })

  it('is bounded, and begins again where the log was read to', () => {
    const half = { bytes: new Uint8Array(HANDED_BYTES / 2) }
    expect(firsts(handed(row(1, 1, half), row(2, 1, half)), 0)).toEqual([1, 2])
    const slow = handed(row(1, 1, half), row(2, 1, half), row(3))
    expect(firsts(slow, 0)).toEqual([])
    slow.hand([row(4)])
    expect(firsts(slow, 3)).toEqual([4])
  })
})
