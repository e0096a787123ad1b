/**
 * Takes back what was made for something that failed then. Why it failed is what its caller is to hear, whatever cannot be
 * taken back: that is only logged.
 */

/** In the order that they are given in. Resolves with whether all were done; never rejects. */
export async function undo(steps: Iterable<() => Promise<void> | void>, to: { log(message: string, fields: Record<string, unknown>): void }): Promise<boolean> {
  let isDone = true
  for (const step of steps) {
    try {
      await step()
    } catch (err) {
      isDone = false
      to.log('what a start that failed had made could not be taken away', { err })
    }
  }
  return isDone
}
