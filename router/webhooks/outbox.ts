/**
 * Sends what is to be told: notices become messages, messages that are due are claimed and sent, and what came of it is
 * recorded. Any number of these may work on one database: claims are theirs alone, and what a dead one had is tried again
 * when its claim is over.
 *
 * When to look is the host's decision.
 */
import type { Log, Platform, Records, Store, Vault } from '../ports.ts'
import { recordAttempt, type DeliveryRow } from '../store/deliveries.ts'
import { claimDue, newTurns, nextDue } from '../store/delivery-turns.ts'
import { attempt } from './attempt.ts'
import { makeMessages } from './make.ts'
import type { Post } from './post.ts'
import { readWebhookSettings, type WebhookSettings } from './settings.ts'

/** Beyond the time that a receiver has, for what is ours to do before and after. */
const CLAIM_MORE_MS = 20_000
/** Looks in a row that find nothing, where many wait for what is full or not due; then it is left to the host when to go on. */
const VAIN_LOOKS = 16

export interface OutboxParts {
  readonly store: () => Store
  readonly records: () => Records
  readonly vault: () => Vault | Promise<Vault>
  readonly platform: Pick<Platform, 'now' | 'random'>
  readonly log: Log
  readonly post: Post
  /** At once here, at once for one tenant, and for one host of a tenant's. */
  readonly most: { readonly here: number; readonly perTenant: number; readonly perHost: number }
  /** Undefined: of all of them. */
  readonly tenant?: string | undefined
  /** An attempt is over, so there is room for another one. */
  readonly freed?: () => void
}

export class Outbox {
  readonly #parts: OutboxParts
  readonly #underWay = new Set<Promise<void>>()
  readonly #closing = new AbortController()
  readonly #turns = newTurns()
  #vainLooks = 0
  #passing: Promise<void> = Promise.resolve()

  constructor(parts: OutboxParts) {
    this.#parts = parts
  }

  /** When there is something to do; undefined: nothing is. */
  due(): Promise<number | undefined> {
    return nextDue(this.#parts.store().db, this.#parts.tenant)
  }

  /** Begins what is due, as far as there is room, and does not wait for it. Resolves to 0 when another pass would find nothing. */
  pass(): Promise<number> {
    // One after the other: two at once would both fill the same room.
    const turn = this.#passing.then(() => this.#pass())
    this.#passing = turn.then(
      () => undefined,
      () => undefined,
    )
    return turn
  }

  /** Until nothing is due and nothing under way; begins nothing any more after `until`. */
  async drain(until: number): Promise<void> {
    for (;;) {
      if (this.#parts.platform.now() < until && (await this.pass()) > 0) continue
      if (this.#underWay.size === 0) return
      await Promise.race(this.#underWay)
    }
  }

  /** What is under way gets `graceMs` to end; what does not is tried again by whoever comes next. */
  async close(graceMs: number): Promise<void> {
    const timer = setTimeout(() => this.#closing.abort(), graceMs)
    await Promise.all(this.#underWay)
    clearTimeout(timer)
    this.#closing.abort()
  }

  async #pass(): Promise<number> {
    const { platform, most, tenant } = this.#parts
    const store = this.#parts.store()
    const made = await makeMessages({ store, records: this.#parts.records(), log: this.#parts.log }, platform.now(), tenant)
    const free = most.here - this.#underWay.size
    if (free <= 0 || this.#closing.signal.aborted) return made
    const settings = await readWebhookSettings(store.db)
    const now = platform.now()
    const until = now + settings.timeout_s * 1_000 + CLAIM_MORE_MS
    const { claimed, isWhole } = await claimDue(store.db, now, until, { free, ...most }, this.#turns, tenant)
    for (const delivery of claimed) this.#begin(delivery, settings)
    this.#vainLooks = claimed.length > 0 || isWhole || this.#vainLooks === VAIN_LOOKS ? 0 : this.#vainLooks + 1
    return made + claimed.length + Math.sign(this.#vainLooks)
  }

  #begin(delivery: DeliveryRow, settings: WebhookSettings): void {
    const work = this.#attempt(delivery, settings)
      .catch((error: unknown) => {
        this.#parts.log.warn({ err: error, delivery: delivery.id }, 'an attempt could not be made or recorded; it is made again')
      })
      .finally(() => {
        this.#underWay.delete(work)
        this.#parts.freed?.()
      })
    this.#underWay.add(work)
  }

  async #attempt(delivery: DeliveryRow, settings: WebhookSettings): Promise<void> {
    const { platform, log, post } = this.#parts
    const store = this.#parts.store()
    const outcome = await attempt({ store, vault: await this.#parts.vault(), platform, log, post }, delivery, settings, this.#closing.signal)
    await recordAttempt(store.db, delivery, outcome, platform.now())
  }
}
