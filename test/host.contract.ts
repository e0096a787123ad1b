/**
 * The contract of a host: black box over HTTP and the runners' WebSocket. A host is whatever passes it; what one cannot do
 * is an option by name in kit/host.ts.
 */
import { describe } from 'vitest'
import { disconnect } from './contract/disconnect.ts'
import { idempotency } from './contract/idempotency.ts'
import { links } from './contract/links.ts'
import { oddRequests } from './contract/odd-requests.ts'
import { queue } from './contract/queue.ts'
import { retention } from './contract/retention.ts'
import { spine } from './contract/spine.ts'
import type { Host } from './kit/host.ts'

const SECTIONS = [spine, links, queue, idempotency, disconnect, retention, oddRequests]

export function contract(host: Host): void {
  describe(`the contract on ${host.name}`, () => {
    for (const section of SECTIONS) section(host)
  })
}
