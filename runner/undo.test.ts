import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { undo } from './undo.ts'

describe('what was made for something that failed', () => {
  const logged: unknown[] = []
  const to = { log: (_: string, { err }: Record<string, unknown>) => void logged.push((err as Error).message) }
  beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] }))
  afterEach(() => {
    vi.useRealTimers()
    logged.length = 0
  })

  it('is taken back in order, all of it, also behind a step that fails', async () => {
    const done: number[] = []
    const fails = () => Promise.reject(new Error('no'))
    expect(await undo([() => void done.push(1), fails, async () => void done.push(2)], to)).toBe(false)
    expect([done, logged]).toEqual([[1, 2], ['no']])
    expect(await undo([() => void done.push(3)], to)).toBe(true)
    expect(vi.getTimerCount()).toBe(0)
  })

  it('is not waited for longer than ten seconds, as what hangs in the kernel would be for ever', async () => {
    const done: number[] = []
    const undone = undo([() => new Promise<void>(() => undefined), () => void done.push(2)], to)
    await vi.advanceTimersByTimeAsync(9_999)
    expect(done).toEqual([])
    await vi.advanceTimersByTimeAsync(1)
    expect(await undone).toBe(false)
    expect([done, logged]).toEqual([[2], ['it is not done after 10 s']])
  })
})
