import { describe, expect, it } from 'vitest'
import { GRACE_MS } from '../../shared/limits.ts'
import type { Mark } from '../../shared/marks.ts'
import { CoreRig, EXIT, held, OTHER, restored, RUN } from '../../test/kit/core.ts'

const NOT_STARTED: Mark = { kind: 'exit', code: null, signal: null, reason: 'not_started', duration_ms: 0 }

function running(): CoreRig {
  const rig = new CoreRig()
  rig.connect(1)
  rig.start()
  return rig
}

describe('a router that was restarted', () => {
  it('takes its runs up where the log ends', () => {
    const rig = new CoreRig()
    rig.core.restore([restored()], 0)
    rig.connect(1, [held('running', 7)])
    expect(rig.last('welcome').resume).toEqual([{ run: RUN, fence: 1, ack: 4, part: 0, do: 'continue' }])
    rig.lines(1, 5, ['{}'])
    expect(rig.pending).toHaveLength(1)
  })

  it('takes them up in the middle of a line in parts', () => {
    const rig = new CoreRig()
    rig.core.restore([restored({ durable: { seq: 4, part: 2 }, parts: 4 })], 0)
    rig.connect(1, [held('running', 7)])
    expect(rig.last('welcome').resume).toMatchObject([{ ack: 4, part: 2 }])
    rig.part(1, 5, 2, 4)
    rig.part(1, 5, 3, 4)
    rig.commit()
    expect(rig.acks.at(-1)?.slice(2, 4)).toEqual([5, 0])
  })

  it('remembers that a cancel was asked for', () => {
    const rig = new CoreRig()
    rig.core.restore([restored({ cancelRequested: true })], 0)
    rig.connect(1, [held('running', 7)])
    expect(rig.count('cancel')).toBe(1)
    rig.mark(1, 5, EXIT)
    expect(rig.pending.at(-1)?.ending?.state).toBe('cancelled')
  })

  it('is told by the database that a run has ended although the commit of its exit failed', () => {
    const rig = running()
    rig.mark(1, 2, EXIT)
    rig.failStorage()
    rig.do(rig.core.restore([], 0))
    expect(rig.woken.at(-1)).toBe(RUN)
    expect(rig.over).toEqual([RUN])
    rig.connect(2, [held('exited', 2)])
    expect(rig.last('welcome').resume).toMatchObject([{ run: RUN, do: 'revoke' }])
    expect(rig.core.busy).toBe(0)
  })

  it('says once which runs are over of those whose commit failed, and that of none that goes on', () => {
    const rig = running()
    rig.start(1, OTHER)
    rig.mark(1, 2, EXIT)
    rig.mark(1, 2, EXIT, OTHER)
    rig.failStorage()
    rig.do(rig.core.restore([restored({ run: OTHER, durable: { seq: 1, part: 0 } })], 0))
    rig.do(rig.core.restore([], 0))
    expect(rig.over).toEqual([RUN])
    rig.connect(2, [held('exited', 2, OTHER)])
    rig.mark(2, 2, EXIT, OTHER)
    rig.commit()
    expect([rig.over, rig.core.busy]).toEqual([[RUN], 0])
  })

  it('does not take a run for ended that was leased while the database was read', () => {
    const rig = running()
    rig.lines(1, 2, ['{}'])
    rig.failStorage()
    rig.connect(2, [held('running', 1)])
    rig.lease(2, OTHER)
    rig.do(rig.core.restore([], 0))
    expect([rig.core.knows(RUN), rig.core.knows(OTHER)]).toEqual([false, true])
  })

  it('believes the log about a run that it knows: a commit that failed may have been kept all the same', () => {
    const rig = running()
    rig.lines(1, 2, ['{"a":1}'])
    rig.failStorage()
    rig.core.restore([restored({ durable: { seq: 2, part: 0 } })], 0)
    rig.connect(2, [held('running', 3)])
    expect(rig.last('welcome').resume).toMatchObject([{ ack: 2 }])
    rig.lines(2, 3, ['{"b":2}'])
    rig.commit()
    expect(rig.acks.at(-1)?.slice(2, 4)).toEqual([3, 0])
  })

  it.each([
    ['was kept', []],
    ['was not kept', [restored({ state: 'leased', durable: { seq: 0, part: 0 } })]],
  ])('asks again for a return to the line that failed, and it %s', (_what, rows) => {
    const rig = new CoreRig()
    rig.connect(1)
    rig.lease()
    rig.mark(1, 1, NOT_STARTED)
    expect(rig.requeued).toEqual([RUN])
    rig.do(rig.core.storageFailed(0))
    rig.do(rig.core.restore(rows, 0))
    expect([rig.requeued, rig.over]).toEqual([[RUN, RUN], []])
    rig.connect(2, [held('exited', 1)])
    rig.mark(2, 1, NOT_STARTED)
    rig.do(rig.core.requeued(RUN, 1))
    expect(rig.last('forget')).toMatchObject({ run: RUN, fence: 1 })
    expect([rig.pending, rig.closed.length, rig.core.busy]).toEqual([[], 1, 0])
  })

  it('hears from a run that it could not give up that it never started', () => {
    const rig = new CoreRig()
    rig.connect(1)
    rig.lease()
    rig.cut(1)
    rig.tick(GRACE_MS)
    rig.failStorage()
    rig.do(rig.core.restore([restored({ state: 'leased', durable: { seq: 0, part: 0 } })], rig.now))
    rig.connect(2, [held('exited', 1)])
    rig.mark(2, 1, NOT_STARTED)
    expect([rig.requeued, rig.pending]).toEqual([[RUN], []])
  })
})
