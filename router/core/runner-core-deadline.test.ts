import { describe, expect, it } from 'vitest'
import { CoreRig, held, RUN, SPEC } from '../../test/kit/core.ts'
import { CLOSE } from '../../shared/frames.ts'
import type { ExitMark } from '../../shared/marks.ts'
import { BACKSTOP_MS } from './live-run.ts'
import { CANCEL_CONFIRM_MS } from './live-run.ts'

const DEADLINE_MS = SPEC.timeout_s * 1_000 + BACKSTOP_MS
const CANCELLED: ExitMark = { kind: 'exit', code: null, signal: 'SIGKILL', reason: 'cancelled', duration_ms: 1 }
const NOT_STARTED: ExitMark = { kind: 'exit', code: null, signal: null, reason: 'not_started', duration_ms: 0 }

function connected(slots = 2): CoreRig {
  const rig = new CoreRig()
  rig.connect(1, [], { slots })
  return rig
}

/** Time passes with the runner alive and speaking of its run. */
function pass(rig: CoreRig, ms: number): void {
  for (let left = ms; left > 0; left -= 10_000) {
    rig.receive(1, { t: 'hb', id: 'h', runs: [[RUN, 1, 1]], free: 1, load: 0, disk_free: 1 })
    rig.tick(Math.min(10_000, left))
  }
}

describe('a run past its deadline', () => {
  it('is ended by the router when its runner does not do it, as a timeout and not as a cancel', () => {
    const rig = connected()
    rig.start()
    pass(rig, DEADLINE_MS - 1)
    expect(rig.count('cancel')).toBe(0)
    pass(rig, 1)
    expect(rig.last('cancel')).toMatchObject({ run: RUN, mode: 'kill' })
    rig.mark(1, 2, CANCELLED)
    expect(rig.pending.at(-1)?.ending).toMatchObject({ state: 'failed', error: { code: 'timeout' } })
  })

  it('is lost when its runner does not answer that either', () => {
    const rig = connected()
    rig.start()
    pass(rig, DEADLINE_MS)
    pass(rig, CANCEL_CONFIRM_MS)
    expect(rig.pending.at(-1)).toMatchObject({ ending: { state: 'lost' }, loss: true })
  })
})

describe('a cancelled run whose exit stands behind a long backlog', () => {
  it('is not given up while its events arrive', () => {
    const rig = connected()
    rig.start()
    rig.do(rig.core.cancel(RUN, 1, rig.now))
    for (let seq = 2; seq < 10; seq++) {
      rig.lines(1, seq, ['{}'])
      rig.commit()
      pass(rig, CANCEL_CONFIRM_MS - 10_000)
    }
    expect(rig.pending).toEqual([])
    rig.mark(1, 10, CANCELLED)
    expect(rig.pending.at(-1)?.ending?.state).toBe('cancelled')
  })
})

describe('a run that had the go and was not started', () => {
  it('goes back to the line, and its runner forgets it', () => {
    const rig = connected()
    rig.lease()
    const effects = rig.core.message(1, { t: 'mark', run: RUN, fence: 1, seq: 1, mark: NOT_STARTED }, 0)
    expect(effects).toEqual([{ do: 'requeue', run: RUN, fence: 1 }])
    expect(rig.core.requeued(RUN, 1)[0]).toEqual({ do: 'send', message: { t: 'forget', run: RUN, fence: 1 } })
    expect(rig.core.knows(RUN)).toBe(false)
  })

  it('is cancelled if that was asked for meanwhile', () => {
    const rig = connected()
    rig.lease()
    rig.do(rig.core.cancel(RUN, 1, 0))
    rig.mark(1, 1, NOT_STARTED)
    expect(rig.pending.at(-1)?.ending?.state).toBe('cancelled')
  })

  it('has ended when an event of it was seen, whatever its runner says', () => {
    const rig = connected()
    rig.start()
    rig.mark(1, 2, NOT_STARTED)
    expect(rig.pending.at(-1)?.ending).toMatchObject({ state: 'failed', error: { code: 'not_started' } })
  })
})

describe('a runner that ignores its credit', () => {
  it('is sent away before it fills the memory of the router, and what is confirmed frees room again', () => {
    const rig = connected()
    rig.start()
    const line = `{"pad":"${'x'.repeat(500_000)}"}`
    let seq = 2
    for (; rig.closed.length === 0 && seq < 100; seq++) rig.lines(1, seq, [line])
    expect(rig.closed).toMatchObject([{ code: CLOSE.rate }])
    expect(rig.pending.reduce((sum, a) => sum + (a.rows[0]?.bytes.length ?? 0), 0)).toBeLessThan(6_000_000)

    const patient = connected()
    patient.start()
    for (seq = 2; seq < 100; seq++) {
      patient.lines(1, seq, [line])
      patient.commit()
    }
    expect(patient.closed).toEqual([])
  })

  it('has not lost what was refused: it comes again on the next connection', () => {
    const rig = connected()
    rig.start()
    const line = `{"pad":"${'x'.repeat(500_000)}"}`
    let seq = 2
    for (; rig.closed.length === 0; seq++) rig.lines(1, seq, [line])
    rig.commit()
    rig.cut(1)
    rig.connect(2, [held('running', seq)])
    const refused = seq - 1
    expect(rig.last('welcome').resume).toMatchObject([{ ack: refused - 1 }])
    rig.lines(2, refused, [line])
    rig.commit()
    expect(rig.log().map(([at]) => at)).toEqual(Array.from({ length: refused }, (_, i) => i + 1))
  })

  it('is not mistaken for one whose events the log refused', () => {
    const rig = connected(64)
    const line = `{"pad":"${'x'.repeat(500_000)}"}`
    for (let n = 0; n < 40; n++) {
      const run = `run_${String(n).padStart(32, '0')}`
      rig.start(1, run)
      rig.lines(1, 2, [line], run)
      for (const append of rig.pending.splice(0)) rig.do(rig.core.fencedOut(append))
    }
    expect(rig.closed).toEqual([])
  })
})
