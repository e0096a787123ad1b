/**
 * A refusal that is faster than the answer to the request for it: the pool object says late that the run is submitted,
 * when its row is gone again.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { Fault, FAULTS } from '../shared/faults.ts'
import { bundleWorker, WORKER_ENTRY } from '../edge/bundle.ts'
import { startFleet, type Fleet } from './kit/fleet.ts'
import { workersHost } from './kit/host-workers.ts'
import { SSE } from './kit/sse.ts'
import { echo } from './kit/turns.ts'

/** Longer than a runner in this process takes to refuse. */
const LATE_MS = 500

const LATE = `
import { PoolDO as Inner } from ${JSON.stringify(WORKER_ENTRY)}
export { default, OutboxDO, RunnerDO, TenantDO } from ${JSON.stringify(WORKER_ENTRY)}
export class PoolDO extends Inner {
  async submit(...args) {
    const answer = await super.submit(...args)
    await new Promise((resolve) => setTimeout(resolve, ${LATE_MS}))
    return answer
  }
}
`

describe('a refusal that comes before the answer of the pool', () => {
  let dir: string
  let host: Fleet
  let fleet: Fleet
  let tenants = 0
  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'runyard-late-'))
    const [entry, bundle] = [join(dir, 'entry.js'), join(dir, 'worker.js')]
    await writeFile(entry, LATE)
    await bundleWorker(entry, bundle)
    host = await startFleet(workersHost, { bundle })
  })
  afterAll(async () => {
    await host.close()
    await rm(dir, { recursive: true, force: true })
  })
  beforeEach(async () => void (fleet = await host.as(`tenant-${++tenants}`)))
  afterEach(() => fleet.close())

  it.each(['cwd', 'agent_not_found', 'internal'] as const)('with %s is heard as that, after one offer', async (code) => {
    let offers = 0
    await fleet.runner({
      turn: echo,
      prepare: () => Promise.reject(new Fault(code, `offer ${++offers}`)),
    })
    // While somebody waits for a runner, everybody goes through the pool.
    await fleet.start({ prompt: 'elsewhere', labels: { os: 'plan9' } })
    const asks: Record<string, string>[] = [SSE, { accept: 'application/json' }, { prefer: 'respond-async' }, { 'idempotency-key': 'k' }]
    for (const headers of asks) {
      offers = 0
      const response = await fleet.run({ prompt: 'bad' }, headers)
      expect([response.status, await response.json()]).toMatchObject([FAULTS[code].status, { code, detail: 'offer 1' }])
      expect(offers).toBe(1)
    }
    expect((await fleet.list()).length).toBe(1)
  })
})
