/** What only a look into the Node host shows; what it answers is in host.contract.ts. */
import { connect } from 'node:net'
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
