/**
 * Takes back what was made for something that failed then. Why it failed is what its caller is to hear, whatever cannot be
 * taken back: that is only logged.
 */

/** In the order that they are given in. Never rejects. */
export async function undo(steps: Iterable<() => Promise<void> | void>, to: { log(message: string, fields: Record<string, unknown>): void }): Promise<void> {
  for (const step of steps) {
    try {
      await step()
    } catch (err) {
      to.log('what a start that failed had made could not be taken away', { err })
    }
  }
}
