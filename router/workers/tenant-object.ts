/**
 * The object of one tenant: how often its callers ask (core/gcra), for all isolates at once. Only tenants and tokens that
 * have a limit are asked about.
 *
 * It answers from memory, and what is stored is ahead of that: a limit is written as if the next few requests had been
 * made, and not again until they have. So an object that is thrown out at any moment comes back having let through no less
 * than was written: a drained limit stays drained, a busy one costs a write for each tenth of its burst, and what is lost
 * by it is that tenth, once.
 */
import { DurableObject } from 'cloudflare:workers'
import { intervalMs } from '../core/gcra.ts'
import { takeLocal, type LocalLimits } from '../limits/local-limiter.ts'
import type { Draw, RateDecision } from '../ports.ts'
import type { Env } from './env.ts'

/** Limits that are whole again are deleted this often. */
const TIDY_MS = 3_600_000
/** Notes of what is on disk; who has lost one writes once more. */
const MAX_KEYS = 50_000

export class TenantDO extends DurableObject<Env> {
  readonly #limits: LocalLimits = new Map()
  /** What is on disk, of those limits that were used since we are here. */
  readonly #written = new Map<string, number>()
  #alarmed = false

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env)
    ctx.storage.sql.exec('CREATE TABLE IF NOT EXISTS limits (id TEXT PRIMARY KEY, tat REAL NOT NULL) WITHOUT ROWID')
  }

  async take(draws: readonly [Draw, ...Draw[]]): Promise<RateDecision> {
    for (const { key } of draws) this.#recall(key)
    const decision = takeLocal(this.#limits, draws, Date.now())
    // Not awaited: the answer leaves the object when what was written is on disk (output gate).
    for (const draw of draws) this.#keep(draw)
    if (!this.#alarmed && decision.ok) await this.#plan()
    return decision
  }

  override async alarm(): Promise<void> {
    const { sql } = this.ctx.storage
    sql.exec('DELETE FROM limits WHERE tat < ?', Date.now())
    this.#alarmed = false
    if (sql.exec('SELECT 1 FROM limits LIMIT 1').toArray().length > 0) await this.#plan()
  }

  #recall(key: string): void {
    if (this.#limits.has(key)) return
    const [row] = this.ctx.storage.sql.exec<{ tat: number }>('SELECT tat FROM limits WHERE id = ?', key).toArray()
    if (!row) return
    this.#limits.set(key, row.tat)
    this.#written.set(key, row.tat)
  }

  #keep({ key, rate }: Draw): void {
    const tat = this.#limits.get(key) ?? 0
    if ((this.#written.get(key) ?? 0) >= tat) return
    const ahead = tat + (Math.max(1, Math.floor(rate.burst / 10)) - 1) * intervalMs(rate)
    if (this.#written.size >= MAX_KEYS) this.#written.clear()
    this.ctx.storage.sql.exec('INSERT OR REPLACE INTO limits (id, tat) VALUES (?, ?)', key, ahead)
    this.#written.set(key, ahead)
  }

  async #plan(): Promise<void> {
    this.#alarmed = true
    if ((await this.ctx.storage.getAlarm()) === null) await this.ctx.storage.setAlarm(Date.now() + TIDY_MS)
  }
}
