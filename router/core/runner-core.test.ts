import { describe, expect, it } from 'vitest'
import { CoreRig, EXIT, OTHER, RUN, SPEC, STARTED } from '../../test/kit/core.ts'
import { CLOSE } from '../../shared/frames.ts'
import { DEAD_MS, GRACE_MS, LEASE_MS, START_BY_MS } from '../../shared/limits.ts'
import { CANCEL_CONFIRM_MS } from './live-run.ts'

function connected(): CoreRig {
  const rig = new CoreRig()
  rig.connect(1)
  return rig
}

function running(): CoreRig {
  const rig = connected()
  rig.start()
  return rig
}

describe('the life of a run', () => {
  it('goes from offer over go to its exit, each step in its turn', () => {
    const rig = connected()
    rig.do(rig.core.offer(RUN, 1, SPEC, 0))
    const offer = rig.last('offer')
    expect(offer).toMatchObject({ run: RUN, fence: 1, spec: SPEC, start_by_ms: START_BY_MS })

    rig.receive(1, { t: 'accept', re: offer.id, run: RUN, fence: 1, cwd: '/work' })
    expect(rig.leases).toMatchObject([{ run: RUN, fence: 1, home: { cwd: '/work' } }])
    expect(rig.count('lease')).toBe(0)
    rig.do(rig.core.leased(RUN, 1, true, 0))
    expect(rig.last('lease')).toEqual({ t: 'lease', re: offer.id, l: [[RUN, 1, LEASE_MS]] })

    rig.receive(1, { t: 'starting', run: RUN, fence: 1 })
    expect(rig.pending.at(-1)).toMatchObject({ running: true, rows: [] })
    rig.mark(1, 1, STARTED)
    expect(rig.pending.at(-1)).toMatchObject({ started: { provider: 'local' } })
    rig.lines(1, 2, ['{"a":1}', '{"b":2}'])
    rig.mark(1, 4, EXIT)
    rig.commit()
    expect(rig.log()).toEqual([
      [1, STARTED],
      [2, '{"a":1}'],
      [3, '{"b":2}'],
      [4, EXIT],
    ])
    expect(rig.kept.at(-1)?.ending).toMatchObject({ state: 'failed' })
    expect(rig.last('forget')).toEqual({ t: 'forget', run: RUN, fence: 1 })
    expect(rig.core.busy).toBe(0)
  })

  it('acknowledges and wakes only what is durable', () => {
    const rig = running()
    const before = { acks: rig.acks.length, woken: rig.woken.length }
    rig.lines(1, 2, ['{}', '{}'])
    rig.lines(1, 4, ['{}'])
    rig.tick(1_000)
    expect({ acks: rig.acks.length, woken: rig.woken.length }).toEqual(before)
    rig.commit(1)
    expect(rig.acks.at(-1)?.slice(0, 4)).toEqual([RUN, 1, 3, 0])
    rig.commit(1)
    expect(rig.acks.at(-1)?.slice(0, 4)).toEqual([RUN, 1, 4, 0])
    expect(rig.woken.length).toBe(before.woken + 2)
  })

  it('acknowledges a long line part by part', () => {
    const rig = running()
    for (const i of [0, 1, 2]) rig.part(1, 2, i, 3)
    rig.commit()
    expect(rig.acks.slice(-3).map(([, , seq, part]) => [seq, part])).toEqual([[1, 1], [1, 2], [2, 0]])
  })

  it('has one ending, and nothing after it', () => {
    const rig = running()
    rig.mark(1, 2, EXIT)
    rig.mark(1, 3, EXIT)
    rig.lines(1, 3, ['{}'])
    rig.tick(1_000)
    expect(rig.pending.map((a) => a.ending?.state)).toEqual(['failed'])
    rig.commit()
    rig.lines(1, 3, ['{}'])
    rig.mark(1, 3, EXIT)
    expect(rig.pending).toEqual([])
    expect(rig.count('revoke')).toBe(2)
  })

  it('is started once, however often the runner accepts', () => {
    const rig = connected()
    rig.lease()
    rig.receive(1, { t: 'accept', re: rig.last('offer').id, run: RUN, fence: 1, cwd: '/work' })
    expect(rig.leases).toHaveLength(1)
    expect(rig.count('lease')).toBe(1)
  })

  it('is renewed by heartbeats that name it', () => {
    const rig = running()
    rig.receive(1, { t: 'hb', id: 'h7', runs: [[RUN, 1, 1]], free: 1, load: 0, disk_free: 1 })
    expect(rig.last('lease')).toEqual({ t: 'lease', re: 'h7', l: [[RUN, 1, LEASE_MS]] })
  })

  it('is lost when the runner stays but no longer names it', () => {
    const rig = running()
    for (let ms = 0; ms < LEASE_MS + GRACE_MS; ms += 10_000) {
      rig.receive(1, { t: 'hb', id: 'h', runs: [], free: 2, load: 0, disk_free: 1 })
      rig.tick(10_000)
    }
    expect(rig.pending.at(-1)?.ending?.state).toBe('lost')
  })
})

describe('what a runner says of a run that is not its own', () => {
  it.each([
    ['of a run that nobody gave it', OTHER, 1],
    ['of a fence that is over', RUN, 7],
  ])('%s is answered with a revoke and kept nowhere', (_what, run, fence) => {
    const rig = running()
    rig.lines(1, 2, ['{}'], run, fence)
    rig.part(1, 2, 0, 2, run, fence)
    rig.mark(1, 2, EXIT, run, fence)
    rig.receive(1, { t: 'starting', run, fence })
    rig.receive(1, { t: 'accept', re: 'o1', run, fence, cwd: '/' })
    rig.receive(1, { t: 'hb', id: 'h', runs: [[run, fence, 2]], free: 0, load: 0, disk_free: 1 })
    expect(rig.sent.filter((m) => m.t === 'revoke')).toEqual(Array.from({ length: 6 }, () => ({ t: 'revoke', run, fence })))
    expect(rig.pending).toEqual([])
  })

  it('is over when the log says that another writer has the run', () => {
    const rig = running()
    rig.lines(1, 2, ['{}'])
    rig.pending.pop()
    rig.do(rig.core.fencedOut({ run: RUN, fence: 1 }))
    expect(rig.last('revoke')).toEqual({ t: 'revoke', run: RUN, fence: 1 })
    expect(rig.woken.at(-1)).toBe(RUN)
    expect(rig.core.knows(RUN)).toBe(false)
  })
})

describe('an offer', () => {
  it('is refused while the runner is away, draining or full', () => {
    const rig = new CoreRig()
    rig.do(rig.core.offer(RUN, 1, SPEC, 0))
    rig.connect(1, [], { slots: 1 })
    rig.lease()
    rig.do(rig.core.offer(OTHER, 1, SPEC, 0))
    rig.receive(1, { t: 'drain' })
    rig.do(rig.core.offer(OTHER, 1, SPEC, 0))
    expect(rig.refused.map((r) => r.code)).toEqual(['no_runner', 'busy', 'draining'])
    expect(rig.core.draining).toBe(true)
  })

  it('is refused with what the runner says', () => {
    const rig = connected()
    rig.do(rig.core.offer(RUN, 1, SPEC, 0))
    rig.receive(1, { t: 'reject', re: rig.last('offer').id, run: RUN, fence: 1, code: 'cwd', message: 'no such directory' })
    expect(rig.refused).toMatchObject([{ run: RUN, fence: 1, code: 'cwd', message: 'no such directory' }])
    expect(rig.core.busy).toBe(0)
  })

  it('that is not answered in time is void, and a late accept is revoked', () => {
    const rig = connected()
    rig.do(rig.core.offer(RUN, 1, SPEC, 0))
    rig.tick(START_BY_MS - 1)
    expect(rig.refused).toEqual([])
    rig.tick(1)
    expect(rig.refused).toMatchObject([{ code: 'start_by' }])
    rig.receive(1, { t: 'accept', re: rig.last('offer').id, run: RUN, fence: 1, cwd: '/work' })
    expect(rig.leases).toEqual([])
    expect(rig.count('revoke')).toBe(2)
  })

  it('is void when the connection that carried it is gone', () => {
    const rig = connected()
    rig.do(rig.core.offer(RUN, 1, SPEC, 0))
    rig.cut(1)
    expect(rig.refused).toMatchObject([{ code: 'no_runner' }])
    rig.connect(2)
    expect(rig.refused).toHaveLength(1)
  })

  it('gets no go when its lease was not written', () => {
    const rig = connected()
    rig.do(rig.core.offer(RUN, 1, SPEC, 0))
    rig.receive(1, { t: 'accept', re: rig.last('offer').id, run: RUN, fence: 1, cwd: '/work' })
    rig.do(rig.core.leased(RUN, 1, false, 0))
    expect(rig.count('lease')).toBe(0)
    expect(rig.last('revoke')).toMatchObject({ run: RUN })
    expect(rig.core.busy).toBe(0)
  })

  it('cannot be followed by events before its lease', () => {
    const rig = connected()
    rig.do(rig.core.offer(RUN, 1, SPEC, 0))
    rig.lines(1, 1, ['{}'])
    expect(rig.closed).toEqual([{ conn: 1, code: CLOSE.malformed }])
    expect(rig.pending).toEqual([])
    rig.receive(1, { t: 'accept', re: rig.last('offer').id, run: RUN, fence: 1, cwd: '/work' })
    rig.do(rig.core.leased(RUN, 1, true, 0))
    // Nothing of it was taken, so the same seq is still free.
    rig.mark(1, 1, STARTED)
    expect(rig.pending).toHaveLength(1)
  })
})

describe('a cancel', () => {
  it('is told once, and decides how the run ends', () => {
    const rig = running()
    rig.do(rig.core.cancel(RUN, 1, 0))
    rig.do(rig.core.cancel(RUN, 1, 0))
    expect(rig.sent.filter((m) => m.t === 'cancel')).toMatchObject([{ run: RUN, fence: 1, mode: 'interrupt' }])
    rig.mark(1, 2, EXIT)
    expect(rig.pending.at(-1)?.ending?.state).toBe('cancelled')
  })

  it('that comes before the go is told right behind it', () => {
    const rig = connected()
    rig.do(rig.core.offer(RUN, 1, SPEC, 0))
    rig.do(rig.core.cancel(RUN, 1, 0))
    expect(rig.count('cancel')).toBe(0)
    rig.receive(1, { t: 'accept', re: rig.last('offer').id, run: RUN, fence: 1, cwd: '/work' })
    rig.do(rig.core.leased(RUN, 1, true, 0))
    expect(rig.sent.slice(-2).map((m) => m.t)).toEqual(['lease', 'cancel'])
  })

  it('that is never confirmed loses the run', () => {
    const rig = running()
    rig.do(rig.core.cancel(RUN, 1, rig.now))
    for (let ms = 0; ms < CANCEL_CONFIRM_MS; ms += 10_000) {
      rig.receive(1, { t: 'hb', id: 'h', runs: [[RUN, 1, 1]], free: 1, load: 0, disk_free: 1 })
      expect(rig.pending).toEqual([])
      rig.tick(10_000)
    }
    expect(rig.pending.at(-1)).toMatchObject({ ending: { state: 'lost' }, loss: true })
  })

  it('of a run that it does not know is nothing', () => {
    const rig = running()
    rig.do(rig.core.cancel(RUN, 2, 0))
    rig.do(rig.core.cancel(OTHER, 1, 0))
    expect(rig.count('cancel')).toBe(0)
  })
})

describe('a log that cannot write', () => {
  it('acknowledges nothing, sends the runner away, and takes the same events again', () => {
    const rig = running()
    const acks = rig.acks.length
    rig.lines(1, 2, ['{"a":1}'])
    rig.lines(1, 3, ['{"b":2}'])
    rig.failStorage()
    expect(rig.acks.length).toBe(acks)
    expect(rig.closed).toEqual([{ conn: 1, code: CLOSE.overload }])
    rig.connect(2, [{ run: RUN, fence: 1, state: 'running', last: 3 }])
    expect(rig.last('welcome').resume).toEqual([{ run: RUN, fence: 1, ack: 1, part: 0, do: 'continue' }])
    rig.lines(2, 2, ['{"a":1}', '{"b":2}'])
    rig.commit()
    expect(rig.log().slice(1)).toEqual([[2, '{"a":1}'], [3, '{"b":2}']])
  })

  it('does not end a run whose ending it could not keep', () => {
    const rig = running()
    rig.mark(1, 2, EXIT)
    rig.failStorage()
    expect(rig.core.knows(RUN)).toBe(true)
    rig.connect(2, [{ run: RUN, fence: 1, state: 'exited', last: 2 }])
    rig.mark(2, 2, EXIT)
    rig.commit()
    expect(rig.log()).toEqual([[1, STARTED], [2, EXIT]])
    expect(rig.core.knows(RUN)).toBe(false)
  })

  it('tries the loss of a run again', () => {
    const rig = running()
    rig.cut(1)
    rig.tick(GRACE_MS)
    expect(rig.pending).toHaveLength(1)
    rig.failStorage()
    rig.tick(1_000)
    rig.commit()
    expect(rig.log().map(([seq]) => seq)).toEqual([1, 2, 3])
    expect(rig.core.idle).toBe(true)
  })
})

describe('a silent connection', () => {
  it('is closed, and its run goes on for the grace', () => {
    const rig = running()
    rig.tick(DEAD_MS - 1)
    expect(rig.closed).toEqual([])
    rig.core.heard(1, rig.now)
    rig.tick(DEAD_MS)
    expect(rig.closed).toEqual([{ conn: 1, code: CLOSE.liveness }])
    expect(rig.core.hello).toBeUndefined()
    rig.tick(GRACE_MS - 1)
    expect(rig.pending).toEqual([])
    rig.tick(1)
    expect(rig.pending.at(-1)?.ending?.state).toBe('lost')
  })
})

describe('an append that can never be kept', () => {
  /** RUN has a line and an exit behind it on their way, OTHER a line. */
  function spoilt(): CoreRig {
    const rig = running()
    rig.start(1, OTHER)
    rig.lines(1, 2, ['{}'])
    rig.mark(1, 3, EXIT)
    rig.lines(1, 2, ['{}'], OTHER)
    const [line, exit] = rig.pending.splice(0, 2)
    rig.do(rig.core.unwritable(line!))
    rig.do(rig.core.fencedOut(exit!))
    return rig
  }

  it('ends its own run as lost, and nothing else of its runner', () => {
    const rig = spoilt()
    rig.commit()
    expect(rig.log()).toMatchObject([
      [1, STARTED],
      [2, { kind: 'gap', from: 2, to: null }],
      [3, { kind: 'exit', reason: 'lost' }],
    ])
    expect(rig.kept.at(-1)).toMatchObject({ run: RUN, loss: true, ending: { state: 'lost' } })
    expect(rig.last('revoke')).toMatchObject({ run: RUN, fence: 1 })
    expect(rig.closed).toEqual([])
    expect(rig.core.busy).toBe(1)
    expect(rig.acks.at(-1)?.slice(0, 3)).toEqual([OTHER, 1, 2])
  })

  it('is given up here when not even its end can be written', () => {
    const rig = spoilt()
    const loss = rig.pending.find((append) => append.loss)
    rig.do(rig.core.unwritable(loss!))
    expect([rig.core.knows(RUN), rig.core.knows(OTHER), rig.closed]).toEqual([false, true, []])
  })
})
