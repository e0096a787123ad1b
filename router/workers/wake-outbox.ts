/** Wakes the objects that send webhooks, where there is something for them to do. */
import { nextDue, tenantsWithWork } from '../store/delivery-turns.ts'
import type { Platform } from '../ports.ts'
import type { Env } from './env.ts'
import { log } from './log.ts'
import { sharedStore } from './shared-store.ts'

export async function wakeOutbox(env: Env, tenant: string): Promise<void> {
  const due = await nextDue(sharedStore(env).db, tenant)
  if (due !== undefined && due <= Date.now()) await env.OUTBOX.getByName(tenant).nudge(tenant)
}

/** The same, for whoever has something better to do than to wait for it. */
export const waking = (env: Env, platform: Pick<Platform, 'background'>) => (tenant: string) => platform.background(wakeOutbox(env, tenant))

/** All of them, should nobody have told one. */
export async function wakeOutboxes(env: Env): Promise<void> {
  for (const tenant of await tenantsWithWork(sharedStore(env).db, Date.now())) {
    try {
      await env.OUTBOX.getByName(tenant).nudge(tenant)
    } catch (error) {
      log.warn({ err: error, tenant }, 'the object that sends webhooks could not be woken; it is tried again by the next cron')
    }
  }
}
