import { describe, expect, it } from 'vitest'
import { Wakeups } from './wakeups.ts'

const never = new AbortController().signal

describe('a wake-up', () => {
  it('reaches everybody who listens to its run, and nobody else', async () => {
    const wakeups = new Wakeups()
    const [a, b, other] = [wakeups.listen('a'), wakeups.listen('a'), wakeups.listen('b')]
    let woken = false
    void other.next(never).then(() => (woken = true))
    const both = Promise.all([a.next(never), b.next(never)])
    wakeups.wake('a')
    await both
    expect(woken).toBe(false)
  })

  it('is not lost when it comes between listening and waiting', async () => {
    const wakeups = new Wakeups()
    const listener = wakeups.listen('a')
    wakeups.wake('a')
    await expect(listener.next(never)).resolves.toBeUndefined()
  })

  it('that came before is none of a later listener', async () => {
    const wakeups = new Wakeups()
    wakeups.wake('a')
    let woken = false
    const waiting = wakeups
      .listen('a')
      .next(never)
      .then(() => (woken = true))
    await Promise.resolve()
    expect(woken).toBe(false)
    wakeups.wake('a')
    await waiting
  })

  it('is not waited for once the reader has left', async () => {
    const wakeups = new Wakeups()
    const stop = new AbortController()
    const waiting = wakeups.listen('a').next(stop.signal)
    stop.abort()
    await expect(waiting).resolves.toBeUndefined()
    await expect(wakeups.listen('a').next(stop.signal)).resolves.toBeUndefined()
  })

  it('does not reach who has stopped listening, and leaves the others theirs', async () => {
    const wakeups = new Wakeups()
    const [gone, there] = [wakeups.listen('a'), wakeups.listen('a')]
    gone.end()
    gone.end()
    const waiting = there.next(never)
    wakeups.wake('a')
    await expect(waiting).resolves.toBeUndefined()
    there.end()
    const late = wakeups.listen('a')
    there.end()
    wakeups.wake('a')
    await expect(late.next(never)).resolves.toBeUndefined()
  })
})
