/**
 * Rate limits that processes share through one database: each takes small blocks of requests from the shared limit and
 * hands them out from memory, so that a short request seldom waits for a commit. What is left of a block is void soon, and
 * the shared burst is smaller by what blocks may hold (core/gcra blocksOf), so the bound of the limit holds for any number
 * of processes.
 *
 * A database that cannot be asked is no reason to refuse (docs/decisions/0009): until it can, each process counts by itself.
 */
import type { Rate } from '../../shared/tenant-settings.ts'
import { blocksOf, burstMs, intervalMs, room, type Blocks } from '../core/gcra.ts'
import type { Db, Draw, Limiter, Log, Platform, RateDecision } from '../ports.ts'
import { giveBackShared, standingOf, takeShared } from '../store/rate-limits.ts'
import { takeLocal, type LocalLimits } from './local-limiter.ts'

/** How long each process counts by itself before the database is asked again. */
const ALONE_MS = 1_000
const MAX_TRIES = 3
/** Everybody who waits for an answer has heard it by then. */
const ANSWERED_MS = 1
/** Limits that were not used for a while are forgotten when there are more than this. */
const MAX_KEYS = 10_000

export interface BlockLimiterParts {
  readonly db: Db
  readonly platform: Pick<Platform, 'background'>
  readonly log: Log
  /** Milliseconds of a clock that only goes forward. */
  readonly now: () => number
}

/** What this process knows of one limit. */
type Bucket = {
  readonly rate: Rate
  readonly blocks: Blocks
  tokens: number
  /** What is left of them is void from then on. */
  goodUntil: number
  /** Nobody gets in before then, whoever asks. */
  fullUntil: number
  /** When the shared limit is whole again, as far as is known here. */
  wholeAt: number
  waiting: number
  asking: Promise<void> | undefined
}

export class BlockLimiter implements Limiter {
  readonly #parts: BlockLimiterParts
  readonly #buckets = new Map<string, Bucket>()
  readonly #alone: LocalLimits = new Map()
  #aloneUntil = -Infinity

  constructor(parts: BlockLimiterParts) {
    this.#parts = parts
  }

  async take(_tenant: string, draws: readonly [Draw, ...Draw[]]): Promise<RateDecision> {
    const { now, log } = this.#parts
    if (now() < this.#aloneUntil) return takeLocal(this.#alone, draws, now())
    // Who is refused by one of them takes nothing of the others.
    for (const draw of draws) {
      const { fullUntil } = this.#bucket(draw)
      if (now() < fullUntil) return { ok: false, retryAfterMs: fullUntil - now(), limit: draw }
    }
    const taken: Draw[] = []
    let refused: RateDecision | undefined
    try {
      for (const draw of draws) {
        refused = await this.#takeOne(draw)
        if (refused) break
        taken.push(draw)
      }
    } catch (error) {
      log.warn({ err: error }, 'the shared rate limits cannot be asked; this process counts by itself')
      this.#aloneUntil = now() + ALONE_MS
      return takeLocal(this.#alone, draws, now())
    }
    if (refused) for (const draw of taken) this.#giveBack(draw)
    return refused ?? this.#nearest(draws)
  }

  async #takeOne(draw: Draw): Promise<RateDecision | undefined> {
    const { now } = this.#parts
    const bucket = this.#bucket(draw)
    bucket.waiting++
    try {
      for (;;) {
        if (bucket.tokens > 0 && now() <= bucket.goodUntil) {
          bucket.tokens--
          return undefined
        }
        if (now() < bucket.fullUntil) return { ok: false, retryAfterMs: bucket.fullUntil - now(), limit: draw }
        bucket.asking ??= this.#ask(draw, bucket).finally(() => (bucket.asking = undefined))
        await bucket.asking
      }
    } finally {
      bucket.waiting--
    }
  }

  /** Takes a block, or as much as there is, for everybody who waits. */
  async #ask({ key }: Draw, bucket: Bucket): Promise<void> {
    const { db, now } = this.#parts
    const { shared, holdMs, size } = bucket.blocks
    const interval = intervalMs(shared)
    let wanted = Math.min(shared.burst, Math.max(size, bucket.waiting))
    for (let tries = 0; tries < MAX_TRIES; tries++) {
      const asked = now()
      const got = await takeShared(db, key, shared, wanted)
      const { tat, now: at } = got ?? (await standingOf(db, key, shared))
      bucket.wholeAt = now() + Math.max(0, tat - at)
      if (got) {
        bucket.tokens = wanted
        // Without a hold there are as many as wait now, and nothing is left for later. With one, those who waited get theirs
        // however long the answer took: otherwise a slow database would let nobody in.
        bucket.goodUntil = holdMs === 0 ? Infinity : Math.max(asked + holdMs, now() + ANSWERED_MS)
        return
      }
      wanted = Math.min(wanted, room(tat, at, shared))
      if (wanted === 0) {
        bucket.fullUntil = now() + Math.max(0, tat + interval - burstMs(shared) - at)
        return
      }
    }
    // Others were always faster.
    bucket.fullUntil = now() + interval
  }

  #giveBack(draw: Draw): void {
    const { db, platform } = this.#parts
    const bucket = this.#bucket(draw)
    if (bucket.blocks.holdMs > 0) bucket.tokens++
    else platform.background(giveBackShared(db, draw.key, draw.rate, 1))
  }

  #nearest(draws: readonly [Draw, ...Draw[]]): RateDecision {
    const standing = draws.map((limit) => {
      const { blocks, tokens, goodUntil, wholeAt } = this.#bucket(limit)
      const now = this.#parts.now()
      const resetMs = Math.max(0, wholeAt - now)
      return { ok: true as const, remaining: room(resetMs, 0, blocks.shared) + (now <= goodUntil ? tokens : 0), resetMs, limit }
    })
    return standing.reduce((nearest, one) => (one.remaining < nearest.remaining ? one : nearest))
  }

  #bucket({ key, rate }: Draw): Bucket {
    const known = this.#buckets.get(key)
    const same = known?.rate.rate === rate.rate && known.rate.burst === rate.burst
    const blocks = same ? known.blocks : blocksOf(rate)
    const unused = { tokens: 0, goodUntil: 0, fullUntil: 0, wholeAt: 0, waiting: 0, asking: undefined }
    const bucket = same ? known : { rate, blocks, ...unused }
    // Behind all others: what was not asked for the longest is in front.
    this.#buckets.delete(key)
    this.#buckets.set(key, bucket)
    for (const oldest of this.#buckets.keys()) {
      if (this.#buckets.size <= MAX_KEYS) break
      this.#buckets.delete(oldest)
    }
    return bucket
  }
}
