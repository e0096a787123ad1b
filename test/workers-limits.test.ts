/** What rate limits cost on the Workers host, and what its objects remember: the real Worker, with its calls printed. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { bundleWorker, WORKER_ENTRY } from '../edge/bundle.ts'
import { SCOPES } from '../router/core/scopes.ts'
import { mint } from '../router/guard/tokens.ts'
import type { TenantLimits } from '../shared/tenant-settings.ts'
import { startFleet, type Fleet } from './kit/fleet.ts'
import { workersHost, type OpenWorkersHost } from './kit/host-workers.ts'

const COUNTING = `
import { TenantDO as Inner } from ${JSON.stringify(WORKER_ENTRY)}
export { default, PoolDO, RunnerDO } from ${JSON.stringify(WORKER_ENTRY)}
export class TenantDO extends Inner {
  async take(draws) {
    const { sql } = this.ctx.storage
    const before = sql.exec('SELECT total_changes() AS n').one().n
    const decision = await super.take(draws)
    console.log(JSON.stringify({ take: draws[0].key, wrote: sql.exec('SELECT total_changes() AS n').one().n - before }))
    return decision
  }
}
`
type Call = { take: string; wrote: number }

describe('the object of a tenant', () => {
  let dir: string
  let host: Fleet<OpenWorkersHost>
  let fleet: Fleet<OpenWorkersHost>
  let tenants = 0
  const calls: Call[] = []

  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'runyard-counting-'))
    const [entry, bundle] = [join(dir, 'entry.js'), join(dir, 'worker.js')]
    await writeFile(entry, COUNTING)
    await bundleWorker(entry, bundle)
    const onLine = (line: string) => line.startsWith('{"take"') && calls.push(JSON.parse(line) as Call)
    host = await startFleet(workersHost, { bundle, onLine })
  })
  afterAll(async () => {
    await host.close()
    await rm(dir, { recursive: true, force: true })
  })
  beforeEach(async () => void (fleet = await host.as(`tenant-${++tenants}`)))
  afterEach(() => fleet.close())

  const mine = () => calls.filter(({ take }) => take.startsWith(`${fleet.tenant}/`))
  const ask = async () => (await fleet.call('/v1/runners')).status
  const askOften = async (times: number) => {
    const statuses = await Promise.all(Array.from({ length: times }, ask))
    return statuses.filter((status) => status === 200).length
  }

  async function limit(limits: TenantLimits): Promise<void> {
    const jti = crypto.randomUUID()
    const operator = { kind: 'admin', tenant: 'default', subject: 'operator', jti, scopes: SCOPES, ttlS: 60 } as const
    const { token } = await mint(fleet.host.keys, operator, Date.now())
    const init = { method: 'PUT', token, body: JSON.stringify(limits) }
    // It may be there already.
    await fleet.call('/admin/v1/tenants', { method: 'POST', token, body: JSON.stringify({ id: fleet.tenant }) })
    const response = await fleet.call(`/admin/v1/limits?tenant=${fleet.tenant}`, init)
    if (!response.ok) throw new Error(await response.text())
  }

  it('is not asked where nothing is limited', async () => {
    await limit({ rates: { write: { rate: 1, burst: 1 } }, concurrent_runs: 5 })
    expect(await askOften(20)).toBe(20)
    expect(mine()).toEqual([])
  })

  it('is asked once for each request, and writes once for each tenth of a burst', async () => {
    await limit({ rates: { read: { rate: 0.01, burst: 100 } } })
    expect(await askOften(50)).toBe(50)
    expect(mine().length).toBe(50)
    // The alarm that tidies up is one more.
    expect(mine().reduce((sum, { wrote }) => sum + wrote, 0)).toBe(6)
  })

  it('is not asked again at once about a limit that is used up', async () => {
    await limit({ rates: { read: { rate: 0.01, burst: 1 } } })
    expect(await ask()).toBe(200)
    for (let i = 0; i < 10; i++) expect(await ask()).toBe(429)
    expect(mine().length).toBeLessThanOrEqual(4)
  })

  it('has forgotten nothing when it is broken in the middle of its work, and taken no more than a tenth', async () => {
    await limit({ rates: { read: { rate: 0.01, burst: 100 } } })
    expect(await askOften(45)).toBe(45)
    await fleet.host.abortObjects?.()
    const left = await askOften(60)
    expect(left).toBeGreaterThanOrEqual(50)
    expect(left).toBeLessThanOrEqual(55)
  })
})
