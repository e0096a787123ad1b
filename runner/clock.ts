/** Time as the agent sees it; tests pass their own. */
export interface Clock {
  /** Monotonic milliseconds: leases and silences. */
  now(): number
  /** Milliseconds since 1970. It runs on while the machine sleeps, which is how a sleep is noticed. */
  wall(): number
  /** Calls back once; the result cancels. */
  after(ms: number, call: () => void): () => void
}

export const systemClock: Clock = {
  now: () => performance.now(),
  wall: () => Date.now(),
  after(ms, call) {
    const timer = setTimeout(call, ms)
    return () => clearTimeout(timer)
  },
}
