/**
 * When a message that was not taken is sent again. No clock and no randomness here: the caller passes them in.
 *
 * The waits are 5 s, 15 s, 45 s, about 2, 7 and 20 minutes, 1 hour, and then 3 hours seven times; each is shortened by up to
 * a fifth at random, so that what failed together does not come back together. 15 attempts take 18 to 23 hours, and with all
 * that receivers may ask for on top never more than 24.
 */
const FIRST_MS = 5_000
const FACTOR = 3
const LONGEST_MS = 3 * 3_600_000
const JITTER = 0.2
export const MAX_ATTEMPTS = 15
/** Of an address that policy refuses: whoever names it may be repairing its name, and nobody does that for a day. */
export const MAX_REFUSALS = 3
/** What a `Retry-After` may ask for where the schedule would be sooner: five waits are shorter than this. */
const MAX_ASKED_MS = 15 * 60_000

/** Until the next attempt; undefined after the last one. `askedMs` is what the receiver wants us to wait. */
export function retryDelayMs(attempts: number, random: () => number, askedMs = 0): number | undefined {
  if (attempts >= MAX_ATTEMPTS) return undefined
  const whole = Math.min(LONGEST_MS, FIRST_MS * FACTOR ** (attempts - 1))
  return Math.round(Math.max(whole * (1 - JITTER * random()), Math.min(askedMs, MAX_ASKED_MS)))
}

/** Milliseconds from `now` that a `Retry-After` asks for, as seconds or as a date (RFC 9110 §10.2.3); 0 if it asks for none. */
export function retryAfterMs(header: string | undefined, now: number): number {
  const text = header?.trim() ?? ''
  if (/^\d{1,9}$/.test(text)) return Number(text) * 1_000
  // Anything else that JavaScript takes for a date, such as `-5`, is none.
  const at = /^[A-Za-z]{3}/.test(text) ? Date.parse(text) : Number.NaN
  return Number.isNaN(at) ? 0 : Math.max(0, at - now)
}
