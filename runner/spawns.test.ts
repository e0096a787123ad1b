import { describe, expect, it } from 'vitest'
import { SpawnQueue } from './spawns.ts'

/** A start that goes on until it is told to end. */
function slowStart() {
  let end: () => void = () => undefined
  const ended = new Promise<void>((resolve) => (end = resolve))
  const start = { begun: false, end: () => end(), run: () => ((start.begun = true), ended) }
  return start
}
const never = () => new AbortController().signal

describe('the queue of starts', () => {
  it('starts no more than its number at a time, in order', async () => {
    const queue = new SpawnQueue(2)
    const starts = [slowStart(), slowStart(), slowStart(), slowStart()]
    const runs = starts.map((start) => queue.run(start.run, never()))
    await Promise.resolve()
    expect(starts.map((s) => s.begun)).toEqual([true, true, false, false])
    starts[1]!.end()
    await runs[1]
    await expect.poll(() => starts.map((s) => s.begun)).toEqual([true, true, true, false])
    for (const start of starts) start.end()
    await Promise.all(runs)
    expect(queue.waiting).toBe(0)
  })

  it('lets an offer that is withdrawn leave at once, without its start', async () => {
    const queue = new SpawnQueue(1)
    const first = slowStart()
    const running = queue.run(first.run, never())
    const withdrawn = new AbortController()
    const second = slowStart()
    const waiting = queue.run(second.run, withdrawn.signal)
    withdrawn.abort()
    await expect(waiting).rejects.toMatchObject({ code: 'start_by' })
    expect(queue.waiting).toBe(0)
    first.end()
    await running
    expect(second.begun).toBe(false)
    await expect(queue.run(second.run, withdrawn.signal)).rejects.toMatchObject({ code: 'start_by' })
  })

  it('keeps the place of a start that is withdrawn while it goes on, until nothing of it is left', async () => {
    const queue = new SpawnQueue(1)
    const [first, second] = [slowStart(), slowStart()]
    const withdrawn = new AbortController()
    const running = queue.run(first.run, withdrawn.signal)
    const next = queue.run(second.run, never())
    await expect.poll(() => first.begun).toBe(true)
    withdrawn.abort()
    let settled = false
    void running.then(() => (settled = true))
    await new Promise(setImmediate)
    expect([settled, second.begun]).toEqual([false, false])
    first.end()
    await running
    second.end()
    await next
  })

  it('goes on after a start that failed', async () => {
    const queue = new SpawnQueue(1)
    await expect(queue.run(() => Promise.reject(new Error('no')), never())).rejects.toThrow('no')
    expect(await queue.run(() => Promise.resolve(7), never())).toBe(7)
  })
})
