/** What nobody waits for and every host has to do now and then. All of it may be done twice, and by several at once. */
import { resealSigningKeys } from '../guard/reseal.ts'
import { resealAll } from '../providers/keys.ts'
import type { Log, Store, Vault } from '../ports.ts'
import { sweepLedger } from '../store/allowances.ts'
import { pruneBindings } from '../store/bindings.ts'
import { pruneDeliveries } from '../store/deliveries.ts'
import { pruneRateLimits } from '../store/rate-limits.ts'
import { pruneSecrets } from '../store/retention.ts'
import { pruneSessions } from '../store/session-retention.ts'
import { resealWebhooks } from '../webhooks/secret.ts'

/** Drops what is over: sessions and secrets that nobody uses, bindings and limits that nobody has used, reservations without a run. */
export async function tidy(store: Store, now: number): Promise<void> {
  await pruneSecrets(store.db, now)
  await pruneBindings(store.db, now)
  await sweepLedger(store, now)
  await pruneRateLimits(store.db, now)
  await pruneDeliveries(store.db, now)
  await pruneSessions(store, now)
}

/** Everything that an older master key has sealed is sealed by the newest. What cannot be opened is logged and stays. */
export async function resealSecrets(parts: { store: Store; vault: Vault; log: Log }): Promise<void> {
  await resealAll(parts)
  await resealSigningKeys(parts)
  await resealWebhooks(parts)
}
