/** The dialect of ccs, route by route. */
import type { Host } from '../kit/host.ts'
import { ccsMessages } from './compat-ccs-messages.ts'
import { ccsProviders } from './compat-ccs-providers.ts'
import { ccsSessions } from './compat-ccs-sessions.ts'
import { ccsTasks } from './compat-ccs-tasks.ts'

export function compatCcs(host: Host): void {
  for (const section of [ccsMessages, ccsSessions, ccsTasks, ccsProviders]) section(host)
}
