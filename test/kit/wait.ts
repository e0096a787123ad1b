/** Between two looks at first. A look may be a request to a host: who has waited long looks less often, and is late by a twentieth. */
const SHORTEST_MS = 10
const LONGEST_MS = 50

/** Waits for a condition instead of for a time. Fails with `what` when it has not come true within `timeoutMs`. */
export async function until<T>(what: string, probe: () => T | undefined | false | Promise<T | undefined | false>, timeoutMs = 15_000): Promise<T> {
  const began = performance.now()
  for (;;) {
    const value = await probe()
    if (value !== undefined && value !== false) return value
    const waitedMs = performance.now() - began
    if (waitedMs > timeoutMs) throw new Error(`waited ${timeoutMs} ms for ${what}`)
    await new Promise((resolve) => setTimeout(resolve, Math.min(Math.max(SHORTEST_MS, waitedMs / 20), LONGEST_MS)))
  }
}
