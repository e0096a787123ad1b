import { describe, expect, it } from 'vitest'
import { Ladder, type Rung } from './cancel.ts'

/** A process that ends at the rung named, or never; it notes the rungs it felt. */
function process(endsAt: number, waitMs = 10, done?: Promise<void>) {
  const felt: number[] = []
  let end = (): void => undefined
  const gone = new Promise<void>((resolve) => (end = resolve))
  const rungs: Rung[] = [0, 1, 2, 3].map((at) => ({
    act: () => {
      felt.push(at)
      if (at === endsAt) end()
    },
    waitMs,
    ...(done && at === 0 ? { done } : {}),
  }))
  return { felt, end, ladder: new Ladder(rungs, gone) }
}

describe('the ladder', () => {
  it('goes no further than it must', async () => {
    const { felt, ladder } = process(1)
    await ladder.climb(0)
    expect(felt).toEqual([0, 1])
  })

  it('begins at the rung that was asked for', async () => {
    const { felt, ladder } = process(3)
    await ladder.climb(2)
    expect(felt).toEqual([2, 3])
  })

  it('comes to an end with a process that does not', async () => {
    const { felt, ladder } = process(-1)
    await ladder.climb(0)
    expect(felt).toEqual([0, 1, 2, 3])
  })

  it('is climbed once, however often it is called', async () => {
    const { felt, ladder } = process(3)
    await Promise.all([ladder.climb(0), ladder.climb(0), ladder.climb(0)])
    await ladder.climb(0)
    expect(felt).toEqual([0, 1, 2, 3])
  })

  it('skips what is left of a wait when it is hurried', async () => {
    const { felt, ladder } = process(3, 60_000)
    const gentle = ladder.climb(0)
    await ladder.climb(3)
    await gentle
    expect(felt).toEqual([0, 3])
  })

  it('is not slowed down by a gentler call', async () => {
    const { felt, ladder } = process(3)
    await Promise.all([ladder.climb(2), ladder.climb(0)])
    expect(felt).toEqual([2, 3])
  })

  it('does not wait at a rung whose work is done', async () => {
    const { felt, ladder } = process(1, 60_000, Promise.resolve())
    await ladder.climb(0)
    expect(felt).toEqual([0, 1])
  })
})
