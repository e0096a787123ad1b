/** What only a look into the Node host shows; what it answers is in host.contract.ts. */
import { connect } from 'node:net'
import { sql } from 'drizzle-orm'
import { afterEach, describe, expect, it } from 'vitest'
import { findRun } from '../router/store/runs.ts'
import type { Fleet } from './kit/fleet.ts'
import { startNodeFleet, type OpenNodeHost } from './kit/host-node.ts'
import { gate } from './kit/turns.ts'

let fleet: Fleet<OpenNodeHost> | undefined
afterEach(async () => {
  await fleet?.close()
  fleet = undefined
})

describe('the database of a router', () => {
  it('keeps no prompt of a run that has started', async () => {
    fleet = await startNodeFleet()
    const cli = gate()
    await fleet.runner({ turn: cli.turn })
    const { id } = await fleet.start({ prompt: 'secret words' })
    await cli.finish('secret words')
    await fleet.until(id, 'succeeded')
    const row = await findRun(fleet.host.router.deps.store.db, 'default', id)
    expect(row?.spec).toBeNull()
  })
})

describe('statistics over a long history', () => {
  it('hold nobody up: what is asked after them is answered before them', async () => {
    fleet = await startNodeFleet()
    const { db } = fleet.host.router.deps.store
    await db.run(sql`
      WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 100000)
      INSERT INTO runs (id, tenant, subject, token, session, pool, state, fence, labels, needs, priority, queue_until, timeout_s, origin, created_at, started_at, ended_at, cost_usd, usage, event_bytes)
      SELECT printf('run_%032x', n), 'default', 's', 't', printf('%x', n), 'default', 'succeeded', 1, '{}', '{}', 5, 0, 1, 'ccs', 1, 1, ${Date.now()} - n, 0.1, '{"input_tokens":1}', 0 FROM c`)
    const other = await fleet.as('other')
    const long = ['/api/statistics', '/v1/usage?group_by=session', '/api/tasks/queue/status', '/api/projects']
    const order: string[] = []
    const asked = long.map(async (path) => {
      const response = await fleet!.call(path)
      order.push(path)
      return response.json()
    })
    for (let n = 1; n <= 3; n++) {
      expect((await other.call('/v1/runs')).status).toBe(200)
      order.push(`other ${n}`)
    }
    const [statistics, usage] = await Promise.all(asked)
    expect(statistics).toMatchObject({ statistics: { summary: { requests: { total: 100_000 }, costs: { total_usd: 10_000 } } } })
    expect(usage).toMatchObject({ total: { runs: 100_000, sessions: 100_000, cost_usd: 10_000 } })
    expect(order.indexOf('other 3')).toBeLessThan(order.indexOf('/api/statistics'))
    await other.close()
  })
})

describe('a router that is told to stop', () => {
  it('stops in time although a peer holds on to a half-made upgrade', async () => {
    fleet = await startNodeFleet()
    const { port } = new URL(fleet.url)
    const socket = connect(Number(port), '127.0.0.1')
    await new Promise((resolve) => socket.once('connect', resolve))
    socket.write('GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: foo\r\n')
    socket.on('error', () => undefined)
    const asked = performance.now()
    await fleet.close()
    fleet = undefined
    expect(performance.now() - asked).toBeLessThan(6_000)
    socket.destroy()
  })
})
