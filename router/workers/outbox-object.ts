/**
 * The object of one tenant's webhooks: sends what is due when somebody says that there is something, and wakes itself for
 * what has to be tried again. What is to be sent is in the shared database, so it may be thrown out at any moment.
 */
import { DurableObject } from 'cloudflare:workers'
import { Outbox } from '../webhooks/outbox.ts'
import { AlarmClock } from './alarm-clock.ts'
import type { Env } from './env.ts'
import { WorkersHub } from './hub.ts'
import { log } from './log.ts'
import { platform, vaultOf } from './platform.ts'
import { sharedStore } from './shared-store.ts'
import { webhookPost } from './webhook-fetch.ts'

/** A request of an object may have six connections of which it waits for an answer. */
const AT_ONCE = { here: 6, perTenant: 6, perHost: 3 }
/** What could not be done is tried again after this long. */
const AGAIN_MS = 5_000
/** An alarm may take 15 minutes; another one goes on where it stopped. */
const ALARM_MS = 10 * 60_000

export class OutboxDO extends DurableObject<Env> {
  readonly #alarms = new AlarmClock(this.ctx.storage)
  #outbox: Outbox | undefined
  #isDraining = false

  /** There may be something to send. */
  async nudge(tenant: string): Promise<void> {
    if (!this.#outbox) await this.ctx.storage.put('tenant', tenant)
    this.#outbox ??= this.#open(tenant)
    // An alarm waits for the one that is at work, which may be waiting for a receiver.
    if (this.#isDraining) await this.#outbox.pass()
    else await this.#alarms.by(Date.now())
  }

  /** Runs again after a kill, without being told so: everything in it may be done twice. */
  override async alarm(): Promise<void> {
    this.#alarms.wentOff()
    const tenant = await this.ctx.storage.get<string>('tenant')
    if (tenant === undefined) return
    this.#outbox ??= this.#open(tenant)
    this.#isDraining = true
    try {
      await this.#outbox.drain(Date.now() + ALARM_MS)
    } catch (error) {
      // Not thrown: an alarm that fails is given up after a few attempts, and what is left is not.
      log.warn({ err: error, tenant }, 'webhooks could not be looked after; it is tried again')
    }
    this.#isDraining = false
    await this.#plan(this.#outbox)
  }

  async #plan(outbox: Outbox): Promise<void> {
    const now = Date.now()
    const due = await outbox.due().catch(() => now)
    if (due !== undefined) await this.#alarms.by(due > now ? due : now + AGAIN_MS)
  }

  #open(tenant: string): Outbox {
    return new Outbox({
      store: () => sharedStore(this.env),
      records: () => new WorkersHub(this.env, sharedStore(this.env)),
      vault: () => vaultOf(this.env),
      platform: platform(),
      log,
      post: webhookPost(this.env),
      most: AT_ONCE,
      tenant,
    })
  }
}
