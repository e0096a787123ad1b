/** One host for a block of tests and a tenant for each of them: nothing of one test is in the way of the next. */
import { afterAll, afterEach, beforeAll, beforeEach } from 'vitest'
import { startFleet, type Fleet } from '../kit/fleet.ts'
import type { Host, HostOptions } from '../kit/host.ts'

/** The result gives the fleet of the test that is running. */
export function tenantEach(host: Host, options: HostOptions = {}): () => Fleet {
  let shared: Fleet
  let own: Fleet
  let count = 0
  beforeAll(async () => void (shared = await startFleet(host, options)))
  beforeEach(async () => void (own = await shared.as(`tenant-${++count}`)))
  afterEach(() => own.close())
  afterAll(() => shared.close())
  return () => own
}
