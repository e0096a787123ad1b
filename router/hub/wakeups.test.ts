import { describe, expect, it } from 'vitest'
import type { LogRow } from '../core/intake.ts'
import { HANDED_BYTES, HANDED_ROWS, PAGE_ROWS, Wakeups, type Listener } from './wakeups.ts'

const PAGE_BYTES = 64 * 1024
const nobody = () => undefined

/** Somebody who counts how often he was woken. */
function listening(wakeups: Wakeups, topic: string) {
  const woken = { times: 0 }
  const listener = wakeups.listen(topic, () => void woken.times++)
  return { listener, woken }
}

describe('a wake-up', () => {
  it('reaches everybody who listens to its run, and nobody else', () => {
    const wakeups = new Wakeups()
    const all = [listening(wakeups, 'a'), listening(wakeups, 'a'), listening(wakeups, 'b')]
    wakeups.wake('a')
    expect(all.map(({ woken }) => woken.times)).toEqual([1, 1, 0])
  })

  it('is remembered until the next look', () => {
    const wakeups = new Wakeups()
    const { listener } = listening(wakeups, 'a')
    expect(listener.isWoken).toBe(false)
    wakeups.wake('a')
    expect(listener.isWoken).toBe(true)
    listener.take(0, PAGE_BYTES)
    expect(listener.isWoken).toBe(false)
  })

  it('that came before anybody listened is none', () => {
    const wakeups = new Wakeups()
    wakeups.wake('a')
    const { listener, woken } = listening(wakeups, 'a')
    expect([listener.isWoken, woken.times]).toEqual([false, 0])
  })

  it('is the last one when it is over for all, also for who comes later', () => {
    const wakeups = new Wakeups()
    const { listener, woken } = listening(wakeups, 'a')
    expect(listener.isOver).toBe(false)
    wakeups.close()
    expect([listener.isOver, woken.times]).toEqual([true, 1])
    expect(listening(wakeups, 'b').listener.isOver).toBe(true)
  })

  it('does not reach who has stopped listening, and leaves the others theirs', () => {
    const wakeups = new Wakeups()
    const [gone, there] = [listening(wakeups, 'a'), listening(wakeups, 'a')]
    gone.listener.end()
    gone.listener.end()
    wakeups.wake('a')
    there.listener.end()
    const late = listening(wakeups, 'a')
    there.listener.end()
    wakeups.wake('a')
    expect([gone, there, late].map(({ woken }) => woken.times)).toEqual([0, 1, 1])
  })
})

describe('what is handed over', () => {
  const row = (first: number, count = 1, more: Partial<LogRow> = {}): LogRow => {
    return { first, part: 0, parts: 1, count, kind: 'ev', bytes: new TextEncoder().encode('{}\n'.repeat(count)), ...more }
  }
  const follower = (...rows: LogRow[]) => {
    const wakeups = new Wakeups()
    const listener = wakeups.listen('a', nobody)
    wakeups.listen('b', nobody)
    const hand = (one: LogRow) => wakeups.handOver('a', [one])
    for (const one of rows) hand(one)
    return { listener, hand }
  }
  const handed = (...rows: LogRow[]) => follower(...rows).listener
  const firsts = (listener: Listener, after: number, pageBytes = HANDED_BYTES) => {
    return listener.take(after, pageBytes).map(({ first }) => first)
  }

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
    const slow = follower(row(1, 1, half), row(2, 1, half), row(3))
    expect(firsts(slow.listener, 0)).toEqual([])
    slow.hand(row(4))
    expect(firsts(slow.listener, 3)).toEqual([4])
  })

  it('is bounded in rows, however small they are', () => {
    const rows = Array.from({ length: HANDED_ROWS + 1 }, (_, i) => row(i + 1))
    expect(firsts(handed(...rows.slice(0, -1)), 0)).toHaveLength(PAGE_ROWS)
    expect(firsts(handed(...rows), 0)).toEqual([])
  })

  it('is given out in pages, and what is left needs no wake-up', () => {
    const quarter = { bytes: new Uint8Array(PAGE_BYTES / 4) }
    const { listener, hand } = follower(...Array.from({ length: 9 }, (_, i) => row(i + 1, 1, quarter)))
    expect(firsts(listener, 0, PAGE_BYTES)).toEqual([1, 2, 3, 4])
    expect(listener.isWoken).toBe(true)
    hand(row(10, 1, { bytes: new Uint8Array(PAGE_BYTES + 1) }))
    expect(firsts(listener, 4, PAGE_BYTES)).toEqual([5, 6, 7, 8])
    expect(firsts(listener, 8, PAGE_BYTES)).toEqual([9])
    expect(firsts(listener, 9, PAGE_BYTES)).toEqual([10])
    expect(listener.isWoken).toBe(false)
  })

  it('is given out in pages of so many rows', () => {
    const listener = handed(...Array.from({ length: PAGE_ROWS + 1 }, (_, i) => row(i + 1)))
    expect(firsts(listener, 0)).toHaveLength(PAGE_ROWS)
    expect(firsts(listener, PAGE_ROWS)).toEqual([PAGE_ROWS + 1])
  })

  it('leaves nothing of a rest that has become too much', () => {
    const page = { bytes: new Uint8Array(PAGE_BYTES) }
    const { listener, hand } = follower(row(1, 1, page), row(2, 1, page))
    expect(firsts(listener, 0, PAGE_BYTES)).toEqual([1])
    hand(row(3, 1, { bytes: new Uint8Array(HANDED_BYTES - PAGE_BYTES) }))
    hand(row(4))
    expect(firsts(listener, 1, PAGE_BYTES)).toEqual([])
    expect(firsts(listener, 1, PAGE_BYTES)).toEqual([])
  })

  it('is the same for all who follow', () => {
    const wakeups = new Wakeups()
    const [one, other] = [wakeups.listen('a', nobody), wakeups.listen('a', nobody)]
    wakeups.handOver('a', [row(1)])
    expect(one.take(0, PAGE_BYTES)[0]).toBe(other.take(0, PAGE_BYTES)[0])
  })
})
