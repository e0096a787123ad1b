/**
 * Which of the processes that wait for a turn are ended: those that waited too long, have grown or served too much, and
 * then, until the rest fits into the budget, the one that waited longest.
 *
 * Nothing here reads a clock or ends anything. A process in a turn is never among them, and counts nothing: its memory is
 * that of a run, of which `slots` says how many there are. The budget is for what waits.
 */

/** A CLI has 152 MiB before its first turn, 195 after 11 and 292 after 100 (2.1.197), and what it read stays in it. */
export const RECYCLE_TURNS = 100
export const RECYCLE_BYTES = 400 * 1_048_576
/** Of one that was not measured yet, or cannot be. */
export const ESTIMATED_BYTES = 150 * 1_048_576

export interface Kept {
  /** Monotonic; undefined while it is in a turn, or about to have one. */
  readonly idleSinceMs: number | undefined
  readonly bytes: number
  readonly turns: number
  /** It is for whichever session comes next. */
  readonly spare: boolean
}

export interface KeepLimits {
  /** How long one may wait; 0: none does. */
  readonly idleMs: number
  /** What all that wait may have together. */
  readonly budgetBytes: number
}

/** Those that go now. What stays fits into the budget. */
export function leaving<T extends Kept>(all: readonly T[], limits: KeepLimits, now: number): T[] {
  const idle = all.filter((one) => one.idleSinceMs !== undefined)
  const gone = idle.filter((one) => isSpent(one) || waitedMs(one, now) >= limits.idleMs)
  const rest = idle.filter((one) => !gone.includes(one)).toSorted(longestFirst)
  let bytes = bytesOf(rest)
  for (const one of rest) {
    if (bytes <= limits.budgetBytes) break
    gone.push(one)
    bytes -= one.bytes
  }
  return gone
}

/**
 * What has to go for a new spare of `bytes` to fit, or undefined if it does not fit. Only processes that have waited longer
 * than the spare is likely to wait give way to it: else a row of sessions with one turn each fills the budget with what
 * nobody comes back to.
 */
export function roomFor<T extends Kept>(all: readonly T[], limits: KeepLimits, wanted: { bytes: number; waitMs: number }, now: number): T[] | undefined {
  const idle = all.filter((one) => one.idleSinceMs !== undefined)
  const oldest = idle.filter((one) => !one.spare && waitedMs(one, now) > wanted.waitMs).toSorted(longestFirst)
  let free = limits.budgetBytes - bytesOf(idle)
  const gone: T[] = []
  for (const one of oldest) {
    if (free >= wanted.bytes) break
    gone.push(one)
    free += one.bytes
  }
  return free >= wanted.bytes ? gone : undefined
}

/** In how many milliseconds the next of them will have waited too long; undefined: none waits. */
export function nextExpiryMs(all: readonly Kept[], limits: KeepLimits, now: number): number | undefined {
  const left = all.filter((one) => one.idleSinceMs !== undefined).map((one) => Math.max(0, limits.idleMs - waitedMs(one, now)))
  return left.length > 0 ? Math.min(...left) : undefined
}

export const bytesOf = (some: readonly Kept[]): number => some.reduce((sum, { bytes }) => sum + bytes, 0)

const isSpent = ({ bytes, turns }: Kept): boolean => turns >= RECYCLE_TURNS || bytes > RECYCLE_BYTES

const waitedMs = ({ idleSinceMs }: Kept, now: number): number => now - (idleSinceMs ?? now)

/** Of two that waited as long the spare goes: the other one knows a conversation. */
const longestFirst = (a: Kept, b: Kept): number => (a.idleSinceMs ?? 0) - (b.idleSinceMs ?? 0) || Number(b.spare) - Number(a.spare)
