/** The rungs by which a CLI is ended, and how long each may take. See cancel.ts for how they are climbed. */
import { Ladder } from './cancel.ts'
import type { Child } from './child.ts'

export const RUNG = { interrupt: 0, close: 1, term: 2, kill: 3 } as const

/** After the end of its stdin the CLI exits within 0.1 s, or 5 s where a shell runs in the background. */
const LINGER_MS = 6_000

export type Rungs = {
  child: Child
  interrupt: () => Promise<void>
  /** It is to end now: the caller must not mean it to stay. */
  close: () => void
  /** Of a turn: whether the process stays after it. Then there is nothing more to climb for. */
  stays?: Promise<boolean> | undefined
}

export function ladderOf({ child, interrupt, close, stays }: Rungs): Ladder {
  const signal = async (name: 'SIGTERM' | 'SIGKILL'): Promise<void> => {
    await child.noteFamily()
    child.signal(name)
  }
  const gone = child.exited.then(() => undefined)
  // Never, where it stays: then it counts as gone, and no rung may be next.
  const ends = stays && new Promise<void>((resolve) => void stays.then((stay) => stay || resolve()))
  return new Ladder(
    [
      { act: interrupt, waitMs: 2_000, ...(ends ? { done: ends } : {}) },
      { act: close, waitMs: 1_000 },
      { act: () => signal('SIGTERM'), waitMs: 3_000 },
      { act: () => signal('SIGKILL'), waitMs: 5_000 },
    ],
    stays ? Promise.race([gone, stays.then((stay) => (stay ? undefined : gone))]) : gone,
  )
}

/** A process that stays although its stdin was closed is not let stay. Resolves when it has exited or no rung is left. */
export async function linger(child: Child, ladder: Ladder): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<true>((resolve) => (timer = setTimeout(resolve, LINGER_MS, true)))
  if (await Promise.race([late, child.exited.then(() => false)])) await ladder.climb(RUNG.term)
  clearTimeout(timer)
}
