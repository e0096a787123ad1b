/** How long a runner waits before it dials again. A restart of the router must be over in seconds, a herd must not form. */

/** Close codes that only an owner or an update can mend: after a while there is no point in dialling on. */
export const HOPELESS_CODES: ReadonlySet<number> = new Set([4401, 4403, 4426])
const HOPELESS_TRIES = 3
const HOPELESS_AFTER_MS = 10 * 60_000

const FIRST_MS = 250
const BASE_MS = 250
/** Within this time of a live link the cap is short: with 15 s only 45 % of 100 runners were back 10 s after
 * a restart; with 1 s the slowest client waited 3.2 s for a router that was killed, most of it for this. */
const FRESH_MS = 30_000
const FRESH_CAP_MS = 500
const CAP_MS = 15_000

/** `attempt` counts failures since the last stable link, from 0. Full jitter. */
export function reconnectDelayMs(attempt: number, sinceLiveMs: number, random: () => number): number {
  if (attempt === 0) return random() * FIRST_MS
  const cap = sinceLiveMs < FRESH_MS ? FRESH_CAP_MS : CAP_MS
  return random() * Math.min(cap, BASE_MS * 2 ** Math.min(attempt, 16))
}

/** A link that lived this long counts as stable: the next failure is the first one again. */
export const STABLE_MS = 30_000

export function isHopeless(tries: number, sinceFirstMs: number): boolean {
  return tries >= HOPELESS_TRIES && sinceFirstMs >= HOPELESS_AFTER_MS
}
