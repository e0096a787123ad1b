import { existsSync, mkdtempSync, rmSync, statSync, truncateSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Mark } from '../shared/marks.ts'
import { AgentRig, offer, RUN } from '../test/kit/agent.ts'
import { until } from '../test/kit/wait.ts'
import { HeldRun } from './held-run.ts'
import { Spool } from './spool.ts'

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
const line = (text: string) => Buffer.from(text)

describe('a runner that was restarted', () => {
  const intent = { run: RUN, fence: 1, tenant: 'default', session: offer().spec.session.id, marker: '0190a8c4-7c1e-7000-8000-00000000000f' }
  const path = () => join(dir, `${RUN}.1.spool`)

  it.each([
    ['not_started when it had not started', false, 'accepted', 2, 'not_started'],
    // The gap stands before the exit.
    ['runner_restarted when it had', true, 'running', 3, 'runner_restarted'],
  ])('ends a run as %s', async (_what, started, state, last, reason) => {
    const spool = Spool.create(path(), intent)
    if (started) await spool.starting()
    spool.line(line('{"n":1}'))
    spool.flush()
    spool.close()
    await rig.agent.recover()
    expect(rig.swept).toEqual([intent.marker])
    rig.open()
    expect(rig.hello().runs).toEqual([{ run: RUN, fence: 1, state, last: 1 }])
    rig.welcome([{ run: RUN, fence: 1, ack: 1, part: 0, do: 'continue' }])
    rig.ackAll()
    expect(rig.last('mark')).toMatchObject({ seq: last, mark: { kind: 'exit', reason } })
  })

  it.each([
    ['was torn', 3],
    // A full disk kept the last lines out, or the power went between two records.
    ['is whole', 0],
  ])('says that events may be missing after the last one, when the spool %s', async (_what, torn) => {
    const spool = Spool.create(path(), intent)
    await spool.starting()
    spool.line(line('{"n":1}'))
    spool.flush()
    const { bytes } = spool
    spool.line(line('{"n":2}'))
    spool.flush()
    spool.close()
    truncateSync(path(), bytes + torn)
    await rig.agent.recover()
    rig.connect([{ run: RUN, fence: 1, ack: 1, part: 0, do: 'continue' }])
    rig.ackAll()
    expect(rig.all('mark')).toMatchObject([
      { seq: 2, mark: { kind: 'gap', reason: 'spool_lost', from: 2, to: null } },
      { seq: 3, mark: { kind: 'exit', reason: 'runner_restarted' } },
    ])
  })

  it('writes no end before it knows what the router has: a seq must not be given twice', async () => {
    const spool = Spool.create(path(), intent)
    await spool.starting()
    spool.line(line('{"n":1}'))
    spool.flush()
    const { bytes } = spool
    spool.close()
    await rig.agent.recover()
    rig.open()
    expect(statSync(path()).size).toBe(bytes)
    // The router had more than what the power cut left here.
    rig.welcome([{ run: RUN, fence: 1, ack: 0, part: 0, do: 'revoke' }])
    await rig.agent.close()
    expect(existsSync(path())).toBe(false)
    // Nor is anything else sent of it.
    expect(rig.types()).toEqual(['hello', 'bye'])
  })

  it('is not over while its end cannot be written', async () => {
    const spool = Spool.create(path(), intent)
    await spool.starting()
    spool.close()
    let full = true
    const left = Spool.open(path())!
    const mark = left.mark.bind(left)
    // A disk that is full for a second.
    left.mark = (written: Mark) => {
      if (full) throw Object.assign(new Error('no space left on device'), { code: 'ENOSPC' })
      return mark(written)
    }
    const held = new HeldRun({ spool: left, clock: rig.clock, events: { began: () => undefined, changed: () => undefined, log: () => undefined } })
    held.resume(0, 0)
    expect(held.held).toMatchObject({ state: 'running', last: 0 })
    full = false
    rig.clock.advance(1_000)
    await until('the end to be written', () => (held.held.state === 'exited' ? true : undefined))
    expect(held.held.last).toBe(2)
    await held.release(true)
  })

  it('sends an exit that it had already, and writes no second one', async () => {
    const spool = Spool.create(path(), intent)
    await spool.starting()
    spool.mark({ kind: 'exit', code: 0, signal: null, reason: 'completed', duration_ms: 1 })
    spool.close()
    await rig.agent.recover()
    rig.connect([{ run: RUN, fence: 1, ack: 0, part: 0, do: 'continue' }])
    expect(rig.all('mark')).toMatchObject([{ seq: 1, mark: { kind: 'exit', reason: 'completed' } }])
  })

  it('does not start a run again that it knows', async () => {
    Spool.create(path(), intent).close()
    await rig.agent.recover()
    rig.connect([{ run: RUN, fence: 1, ack: 0, part: 0, do: 'continue' }])
    rig.receive(offer())
    rig.go()
    expect(rig.prepared).toBe(0)
    expect(rig.last('reject')).toMatchObject({ run: RUN, code: 'start_by' })
    expect(rig.types()).not.toContain('accept')
  })
})

describe('a runner that stops', () => {
  it('ends what runs, and keeps its exit for the next process', async () => {
    rig.connect()
    await rig.run()
    await rig.agent.stop()
    await rig.agent.close()
    expect(rig.types().at(-1)).toBe('bye')
    expect(existsSync(join(dir, `${RUN}.1.spool`))).toBe(true)
    const next = new AgentRig(dir)
    await next.agent.recover()
    next.connect([{ run: RUN, fence: 1, ack: 1, part: 0, do: 'continue' }])
    expect(next.last('mark')).toMatchObject({ mark: { kind: 'exit', reason: 'runner_stopped' } })
    await next.agent.close()
    expect([rig.clock.timers, next.clock.timers]).toEqual([0, 0])
  })
})
