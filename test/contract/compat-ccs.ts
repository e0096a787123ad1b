/** The dialect of ccs, route by route. */
import type { Host } from '../kit/host.ts'
import { ccsMessages } from './compat-ccs-messages.ts'
import { ccsSessions } from './compat-ccs-sessions.ts'

export function compatCcs(host: Host): void {
  for (const section of [ccsMessages, ccsSessions]) section(host)
}
