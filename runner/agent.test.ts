import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { AgentRig, offer, RUN } from '../test/kit/agent.ts'
import { resultAt } from '../test/kit/turns.ts'
import { until } from '../test/kit/wait.ts'
import { Fault } from '../shared/faults.ts'
import { GRACE_MS, HEARTBEAT_MS, LEASE_MS, START_BY_MS } from '../shared/limits.ts'

let dir = ''
let rig: AgentRig
beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'runyard-agent-'))
  rig = new AgentRig(dir)
  await rig.agent.recover()
})
afterEach(async () => {
  await rig.agent.close()
  rmSync(dir, { recursive: true, force: true })
})
const files = () => readdirSync(dir)
const line = (text: string) => Buffer.from(text)
/** The end of what one read of the CLI's output brings. */
const readOver = () => Promise.resolve()

describe('a run that is offered', () => {
  it('is accepted with its intent on disk, and starts with the lease', async () => {
    rig.connect()
    const accept = await rig.offer()
    expect(accept).toEqual({ t: 'accept', re: 'o1', run: RUN, fence: 1, cwd: '/work' })
    expect(files()).toEqual([`${RUN}.1.spool`])
    expect(rig.cli.turns).toBe(0)

    rig.go()
    const sink = await rig.cli.started
    sink.line(line('{"type":"result"}'))
    rig.cli.exit({ result: resultAt(2) })
    await rig.sent('mark', 2)
    expect(rig.types().slice(2)).toEqual(['starting', 'mark 1', 'ev 2+1', 'mark 3'])
    rig.ackAll()
    rig.receive({ t: 'forget', run: RUN, fence: 1 })
    await until('the run to be forgotten', () => rig.agent.idle)
    expect(files()).toEqual([])
    expect(rig.cli.disposed).toBe(1)
  })

  it('is not prepared twice when the offer comes twice', async () => {
    rig.connect()
    await rig.offer()
    rig.receive(offer({ id: 'o2' }))
    expect(rig.last('accept').re).toBe('o2')
    expect(rig.prepared).toBe(1)
    rig.go('o2')
    await rig.cli.started
    rig.receive(offer({ id: 'o3' }))
    rig.go('o3')
    expect(rig.cli.turns).toBe(1)
  })

  it('is refused with what is wrong, and leaves nothing behind', async () => {
    rig.connect()
    rig.prepare = () => Promise.reject(new Fault('cwd', 'no such directory'))
    rig.receive(offer())
    expect(await rig.sent('reject')).toEqual({ t: 'reject', re: 'o1', run: RUN, fence: 1, code: 'cwd', message: 'no such directory' })
    expect(files()).toEqual([])
    expect(rig.agent.idle).toBe(true)
  })

  it('is refused without a word of what went wrong inside', async () => {
    rig.connect()
    rig.prepare = () => Promise.reject(new Error('secret path /root/.key'))
    rig.receive(offer())
    expect(await rig.sent('reject')).toMatchObject({ code: 'internal', message: expect.not.stringContaining('secret') })
  })

  it('is refused as a full disk when that is what it is', async () => {
    rig.connect()
    rig.prepare = () => Promise.reject(Object.assign(new Error('no space'), { code: 'ENOSPC' }))
    rig.receive(offer())
    expect(await rig.sent('reject')).toMatchObject({ code: 'disk' })
  })

  it('is refused when every slot is taken', async () => {
    rig.connect()
    await rig.offer()
    rig.receive(offer({ run: `run_${'b'.repeat(32)}` }))
    expect(await rig.sent('reject')).toMatchObject({ code: 'busy' })
  })

  it('is refused while the runner drains, and what runs goes on', async () => {
    rig.connect()
    await rig.offer()
    rig.agent.drain()
    expect(rig.types()).toContain('drain')
    rig.receive(offer({ run: `run_${'b'.repeat(32)}` }))
    expect(await rig.sent('reject')).toMatchObject({ code: 'draining' })
    rig.go()
    await rig.cli.started
  })

  /** An offer whose preparation does, and what the router and its CLI hear of it. */
  async function takesTooLong(): Promise<void> {
    rig.connect()
    const preparing = rig.hold()
    rig.receive(offer())
    await preparing.begun
    rig.clock.advance(START_BY_MS)
    preparing.finish()
    expect(await rig.sent('reject')).toMatchObject({ code: 'start_by' })
    expect(rig.cli.disposed).toBe(1)
  }

  it('is given up when preparing it takes too long', async () => {
    await takesTooLong()
    expect(rig.cli.cancels).toEqual(['kill'])
    expect(files()).toEqual([])
  })

  it('leaves the marker of a process that could not be killed, for the next start of the runner', async () => {
    rig.cli.cancel = () => Promise.reject(new Error('it does not end'))
    await takesTooLong()
    expect(files()).toHaveLength(1)
  })

  it.each<[string, () => void]>([
    ['the connection is gone', () => rig.cut()],
    ['it is cancelled', () => rig.receive({ t: 'cancel', id: 'c1', run: RUN, fence: 1, mode: 'interrupt', grace_ms: 0 })],
    ['it is revoked', () => rig.receive({ t: 'revoke', run: RUN, fence: 1 })],
    ['the runner stops', () => void rig.agent.stop()],
  ])('is given up when %s while it is prepared', async (_what, happens) => {
    rig.connect()
    const preparing = rig.hold()
    rig.receive(offer())
    await preparing.begun
    happens()
    preparing.finish()
    await until('the offer to be given up', () => rig.agent.idle)
    expect(rig.types()).not.toContain('accept')
    expect(rig.cli.disposed).toBe(1)
    expect(files()).toEqual([])
  })
})

describe('the go', () => {
  it('is not taken when it is too old', async () => {
    rig.connect()
    await rig.offer()
    rig.clock.advance(LEASE_MS / 2)
    rig.go()
    expect(await rig.sent('mark')).toMatchObject({ seq: 1, mark: { kind: 'exit', reason: 'not_started' } })
    expect(rig.cli.turns).toBe(0)
  })

  it('is not taken when the machine slept in between', async () => {
    rig.connect()
    await rig.offer()
    rig.clock.sleep(LEASE_MS)
    rig.go()
    expect(await rig.sent('mark')).toMatchObject({ mark: { reason: 'not_started' } })
    expect(rig.cli.turns).toBe(0)
  })

  it('is not taken when it answers nothing that was said on this connection', async () => {
    rig.connect()
    await rig.offer()
    rig.go('o99')
    expect(await rig.sent('mark')).toMatchObject({ mark: { reason: 'not_started' } })
  })

  it('that answers the hello of a new connection starts what was accepted on the old one', async () => {
    rig.connect()
    await rig.offer()
    rig.cut()
    rig.connect([{ run: RUN, fence: 1, ack: 0, part: 0, do: 'continue' }])
    expect(rig.hello().runs).toEqual([{ run: RUN, fence: 1, state: 'accepted', last: 0 }])
    rig.go('hello-2')
    await rig.cli.started
  })
})

describe('a connection that is cut', () => {
  it('stops nothing, and the next one is told everything after what the router has', async () => {
    rig.connect()
    const sink = await rig.run()
    sink.line(line('{"n":2}'))
    await readOver()
    rig.cut()
    sink.line(line('{"n":3}'))
    sink.line(line('{"n":4}'))
    await readOver()
    expect(rig.cli.cancels).toEqual([])

    rig.open()
    expect(rig.hello()).toMatchObject({ conn: 2, runs: [{ run: RUN, fence: 1, state: 'running', last: 4 }] })
    sink.line(line('{"n":5}'))
    await readOver()
    // Nothing before the welcome: only it says what the router has.
    expect(rig.types()).toEqual(['hello'])
    rig.welcome([{ run: RUN, fence: 1, ack: 2, part: 0, do: 'continue' }])
    expect(rig.types()).toEqual(['hello', 'starting', 'ev 3+3'])
  })

  it('leaves the boot id as it is and counts the connections', () => {
    rig.connect()
    const first = rig.hello()
    rig.cut()
    rig.connect()
    expect(rig.hello()).toMatchObject({ boot: first.boot, conn: first.conn + 1, slots: 1, provider: 'demo', runs: [] })
  })

  it('ends its runs when no router has spoken for a lease and a grace', async () => {
    rig.connect()
    await rig.run()
    rig.cut()
    rig.clock.advance(LEASE_MS + GRACE_MS)
    expect(rig.cli.cancels).toEqual([])
    rig.clock.advance(2_000)
    expect(rig.cli.cancels[0]).toBe('interrupt')
    await until('the exit', () => rig.agent.active === 0)
    rig.open()
    expect(rig.hello().runs).toMatchObject([{ state: 'exited' }])
    rig.welcome([{ run: RUN, fence: 1, ack: 1, part: 0, do: 'continue' }])
    expect(rig.last('mark')).toMatchObject({ mark: { kind: 'exit', reason: 'runner_stopped' } })
  })
})

describe('what the router says of a run', () => {
  it('revoke kills it and leaves nothing', async () => {
    rig.connect()
    await rig.run()
    rig.receive({ t: 'revoke', run: RUN, fence: 1 })
    rig.receive({ t: 'revoke', run: RUN, fence: 1 })
    await until('the run to be gone', () => rig.agent.idle)
    expect(rig.cli.cancels).toContain('kill')
    expect(files()).toEqual([])
  })

  it('revoke in a welcome does the same', async () => {
    rig.connect()
    await rig.run()
    rig.cut()
    rig.connect([{ run: RUN, fence: 1, ack: 0, part: 0, do: 'revoke' }])
    await until('the run to be gone', () => rig.agent.idle && files().length === 0)
    expect(rig.cli.cancels).toContain('kill')
  })

  it('cancel ends it in the way that was asked for', async () => {
    rig.connect()
    await rig.run()
    rig.receive({ t: 'cancel', id: 'c1', run: RUN, fence: 1, mode: 'term', grace_ms: 0 })
    expect(await rig.sent('mark', 2)).toMatchObject({ seq: 2, mark: { kind: 'exit', reason: 'cancelled' } })
    expect(rig.cli.cancels).toEqual(['term'])
  })

  it('of another fence concerns nobody', async () => {
    rig.connect()
    await rig.run()
    rig.receive({ t: 'revoke', run: RUN, fence: 2 })
    rig.receive({ t: 'forget', run: RUN, fence: 2 })
    rig.receive({ t: 'cancel', id: 'c1', run: RUN, fence: 2, mode: 'kill', grace_ms: 0 })
    rig.receive({ t: 'lease', re: 'o1', l: [[RUN, 2, LEASE_MS]] })
    rig.receive({ t: 'ack', a: [[RUN, 2, 99, 0, 1]] })
    expect(rig.cli.cancels).toEqual([])
    expect(files()).toHaveLength(1)
  })
})

describe('heartbeats', () => {
  it('name every run while there are some, and none are sent without', async () => {
    rig.connect()
    rig.clock.advance(60_000)
    expect(rig.types()).toEqual(['hello'])
    const sink = await rig.run()
    sink.line(line('{}'))
    await readOver()
    rig.clock.advance(HEARTBEAT_MS * 3)
    const beats = rig.all('hb')
    expect(beats.length).toBeGreaterThanOrEqual(3)
    expect(beats.at(-1)).toMatchObject({ runs: [[RUN, 1, 2]], free: 0, load: 0.5, disk_free: 7 })
  })

  it('keep a run alive as long as they are answered', async () => {
    rig.connect()
    await rig.run()
    for (let i = 0; i < 60; i++) {
      rig.clock.advance(HEARTBEAT_MS)
      rig.receive({ t: 'lease', re: rig.last('hb').id, l: [[RUN, 1, LEASE_MS]] })
    }
    expect(rig.cli.cancels).toEqual([])
  })
})

describe('news of a provider', () => {
  it('are sent while the router listens, and dropped when it does not', async () => {
    const report = { run: RUN, fence: 1, stage: 'end' as const, provider: 'a', version: 1, model: 'm', outcome: 'ok' as const, status: 200, retry_after_ms: null, latency_ms: 12, tokens: null }
    rig.agent.report(report)
    rig.connect()
    rig.agent.report(report)
    expect(await rig.sent('provider')).toEqual({ t: 'provider', ...report })
    rig.agent.disconnected()
    rig.agent.report(report)
    expect(rig.types().filter((type) => type === 'provider')).toHaveLength(1)
  })
})

describe('sending', () => {
  it('waits while the socket holds too much, and goes on without being asked', async () => {
    rig.connect()
    const sink = await rig.run()
    rig.ackAll()
    rig.buffered = 2 * 1024 * 1024
    sink.line(line('{"n":2}'))
    await readOver()
    rig.clock.advance(100)
    expect(rig.types()).not.toContain('ev 2+1')
    rig.buffered = 0
    rig.clock.advance(10)
    expect(rig.types()).toContain('ev 2+1')
  })
})
