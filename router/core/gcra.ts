/**
 * Rate limits by GCRA: one timestamp for each limit, the theoretical arrival time (`tat`), and no window edge to burst
 * across. All times are milliseconds of one clock.
 *
 * Nothing here reads a clock or stores a value: the caller keeps `tat`, passes the time in, and sees to it that nobody
 * else decides between reading and writing it.
 */
import type { Rate } from '../../shared/tenant-settings.ts'

/** `tat` is to be kept in both cases; a refusal leaves it as it was, unless the clock was set back by more than a burst takes. */
export type Verdict =
  | { readonly ok: true; readonly tat: number; readonly remaining: number; readonly resetMs: number }
  | { readonly ok: false; readonly tat: number; readonly retryAfterMs: number }

/** A double holds every multiple of this exactly until the year 2109, so adding up intervals never loses a part of one. */
const QUANTUM_MS = 1 / 2_048
/** Slower than once in three years is none of our business, and its arithmetic would not be exact. */
const MAX_INTERVAL_MS = 1e11

/** Time that one request takes of its limit, never less than `1 / rate`. */
export function intervalMs({ rate }: Rate): number {
  return Math.min(MAX_INTERVAL_MS, Math.ceil(1_000 / rate / QUANTUM_MS) * QUANTUM_MS)
}

/** What a full burst takes to come back. */
export function burstMs(rate: Rate): number {
  return rate.burst * intervalMs(rate)
}

/**
 * Whether `cost` requests may go now. `tat`: 0 for a limit that nobody has used. In any stretch of time no more than
 * `burst + rate × its length` are let through; a clock that is set back gives nothing away, and locks nobody out for longer
 * than a full burst takes.
 */
export function decide(tat: number, now: number, rate: Rate, cost = 1): Verdict {
  const interval = intervalMs(rate)
  const burst = rate.burst * interval
  // Further ahead than a full burst no honest clock has ever put it.
  const from = Math.min(Math.max(tat, now), now + burst)
  const next = from + cost * interval
  if (next > now + burst) return { ok: false, tat: Math.min(tat, now + burst), retryAfterMs: next - now - burst }
  return { ok: true, tat: next, remaining: Math.floor((now + burst - next) / interval), resetMs: next - now }
}

/** How many requests may go at once. */
export function room(tat: number, now: number, rate: Rate): number {
  return Math.max(0, Math.floor((now + burstMs(rate) - Math.max(tat, now)) / intervalMs(rate)))
}

/**
 * A limit whose tokens are handed out in blocks, to be used up to `holdMs` after they were taken. In a window of length t
 * those used were taken in one of length t + holdMs, so what is shared is smaller by what a `holdMs` brings: a tenth of the
 * burst at most. No hold, and the burst as it is, for limits that are slow, and for those whose burst is used up in no time.
 */
export interface Blocks {
  readonly shared: Rate
  readonly holdMs: number
  /** Of one block. */
  readonly size: number
}

const MAX_HOLD_MS = 1_000
/** A commit may take that long, and what it brought would be void. */
const MIN_HOLD_MS = 50
/** Slower limits are exact: so many commits a second are affordable. */
const MIN_BLOCK_RATE = 50

export function blocksOf(rate: Rate): Blocks {
  const lent = Math.floor(Math.min(rate.burst / 10, MAX_HOLD_MS / intervalMs(rate)))
  const holdMs = lent * intervalMs(rate)
  if (rate.rate < MIN_BLOCK_RATE || holdMs < MIN_HOLD_MS) return { shared: rate, holdMs: 0, size: 1 }
  return { shared: { rate: rate.rate, burst: rate.burst - lent }, holdMs, size: lent }
}
