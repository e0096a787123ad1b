/**
 * Takes back what was made for something that failed then. Why it failed is what its caller is to hear, whatever cannot be
 * taken back: that is only logged.
 */

/** For a step. A process that hangs in the kernel does not end by any signal, and whoever waits for it waits for ever. */
const LONGEST_MS = 10_000

/**
 * In the order that they are given in. Resolves with whether all were done; never rejects. One that takes longer than 10 s
 * counts as not done, and goes on by itself.
 */
export async function undo(steps: Iterable<() => Promise<void> | void>, to: { log(message: string, fields: Record<string, unknown>): void }): Promise<boolean> {
  let isDone = true
  for (const step of steps) {
    try {
      await inTime(step)
    } catch (err) {
      isDone = false
      to.log('what a start that failed had made could not be taken away', { err })
    }
  }
  return isDone
}

async function inTime(step: () => Promise<void> | void): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`it is not done after ${LONGEST_MS / 1_000} s`)), LONGEST_MS)
  })
  try {
    await Promise.race([step(), late])
  } finally {
    clearTimeout(timer)
  }
}
