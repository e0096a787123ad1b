import { describe, expect, it } from 'vitest'
import { CoreRig, EXIT, held, OTHER, restored, RUN, SPEC, STARTED } from '../../test/kit/core.ts'
import { CLOSE } from '../../shared/frames.ts'
import { GRACE_MS, HELLO_MS } from '../../shared/limits.ts'

function running(): CoreRig {
  const rig = new CoreRig()
  rig.connect(1)
  rig.start()
  return rig
}

const lostFrom = (seq: number) => [
  [seq, { kind: 'gap', reason: 'lost', from: seq, to: null }],
  [seq + 1, expect.objectContaining({ kind: 'exit', reason: 'lost' })],
]

describe('a connection', () => {
  it('is closed when it says anything before hello', () => {
    const rig = new CoreRig()
    rig.do(rig.core.opened(1, 0))
    rig.receive(1, { t: 'drain' })
    rig.lines(1, 1, ['{}'])
    expect(rig.closed).toEqual([{ conn: 1, code: CLOSE.malformed }, { conn: 1, code: CLOSE.malformed }])
    expect(rig.core.draining).toBe(false)
  })

  it('is closed when it does not say hello in time', () => {
    const rig = new CoreRig()
    rig.do(rig.core.opened(1, 0))
    rig.tick(HELLO_MS - 1)
    expect(rig.closed).toEqual([])
    rig.tick(1)
    expect(rig.closed).toEqual([{ conn: 1, code: CLOSE.malformed }])
    expect(rig.core.idle).toBe(true)
  })

  it('is closed when it says hello twice', () => {
    const rig = running()
    rig.greet(1)
    expect(rig.closed).toEqual([{ conn: 1, code: CLOSE.malformed }])
  })

  it('is closed when no protocol version is common to both', () => {
    const rig = new CoreRig()
    rig.connect(1, [], { proto: [2, 3] })
    expect(rig.closed).toEqual([{ conn: 1, code: CLOSE.version }])
    expect(rig.sent).toEqual([])
  })

  it('speaks the newest version that both know', () => {
    const rig = new CoreRig()
    rig.connect(1, [], { proto: [1, 9] })
    expect(rig.last('welcome').proto).toBe(1)
  })

  it('gives way to a newer one of the same runner, and is not heard any more', () => {
    const rig = running()
    rig.do(rig.core.opened(2, 0))
    expect(rig.closed).toEqual([{ conn: 1, code: CLOSE.superseded }])
    rig.lines(1, 2, ['{}'])
    rig.mark(1, 2, EXIT)
    rig.receive(1, { t: 'hb', id: 'h', runs: [[RUN, 1, 1]], free: 0, load: 0, disk_free: 1 })
    rig.receive(1, { t: 'drain' })
    rig.greet(1)
    rig.cut(1)
    expect(rig.pending).toEqual([])
    rig.greet(2, [held('running', 2)])
    expect(rig.core.draining).toBe(false)
    rig.lines(1, 2, ['{"late":true}'])
    rig.lines(2, 2, ['{}'])
    rig.commit()
    expect(rig.log().slice(1)).toEqual([[2, '{}']])
    expect(rig.closed).toHaveLength(1)
  })

  it('ends when the runner says goodbye', () => {
    const rig = running()
    rig.receive(1, { t: 'bye' })
    expect(rig.closed).toEqual([{ conn: 1, code: 1000 }])
  })

  it('counts its epochs', () => {
    const rig = running()
    rig.cut(1)
    rig.connect(2, [held('running', 1)])
    expect(rig.sent.flatMap((m) => (m.t === 'welcome' ? [m.epoch] : []))).toEqual([1, 2])
  })
})

describe('the numbering of a run', () => {
  it.each<[string, (rig: CoreRig) => void]>([
    ['a gap', (rig) => rig.lines(1, 3, ['{}'])],
    ['lines that reach back across the end', (rig) => rig.lines(1, 1, ['{}', '{}'])],
    ['a mark too far ahead', (rig) => rig.mark(1, 3, EXIT)],
    ['a part that is not the next one', (rig) => rig.part(1, 2, 1, 3)],
    ['lines inside a line in parts', (rig) => (rig.part(1, 2, 0, 3), rig.lines(1, 2, ['{}']))],
    ['a change of the number of parts', (rig) => (rig.part(1, 2, 0, 3), rig.part(1, 2, 1, 4))],
  ])('is not broken by %s: the link is closed and nothing of it kept', (_what, send) => {
    const rig = running()
    send(rig)
    expect(rig.closed).toEqual([{ conn: 1, code: CLOSE.malformed }])
    expect(rig.pending.flatMap((a) => a.rows).filter((row) => row.part === 0 && row.kind !== 'part')).toEqual([])
  })

  it('drops what it has seen', () => {
    const rig = running()
    rig.lines(1, 2, ['{}', '{}'])
    rig.lines(1, 2, ['{}'])
    rig.lines(1, 2, ['{}', '{}'])
    rig.mark(1, 1, STARTED)
    rig.part(1, 3, 0, 2)
    expect(rig.pending).toHaveLength(1)
    expect(rig.closed).toEqual([])
  })
})

describe('a runner that comes back', () => {
  it('goes on right after what is durable, and its lease is renewed', () => {
    const rig = running()
    rig.lines(1, 2, ['{}', '{}'])
    rig.commit()
    rig.cut(1)
    rig.connect(2, [held('running', 9)])
    expect(rig.last('welcome').resume).toEqual([{ run: RUN, fence: 1, ack: 3, part: 0, do: 'continue' }])
    expect(rig.last('lease')).toMatchObject({ re: 'hello-2', l: [[RUN, 1, expect.any(Number)]] })
  })

  it('is told what is durable, not what had only arrived', () => {
    const rig = running()
    rig.lines(1, 2, ['{}'])
    rig.cut(1)
    rig.connect(2, [held('running', 2)])
    expect(rig.last('welcome').resume).toMatchObject([{ ack: 1, part: 0 }])
  })

  it('goes on in the middle of a line in parts', () => {
    const rig = running()
    rig.part(1, 2, 0, 3)
    rig.commit()
    rig.part(1, 2, 1, 3)
    rig.failStorage()
    rig.connect(2, [held('running', 2)])
    expect(rig.last('welcome').resume).toMatchObject([{ ack: 1, part: 1, do: 'continue' }])
    rig.part(2, 2, 1, 3)
    rig.part(2, 2, 2, 3)
    rig.commit()
    expect(rig.log()).toEqual([[1, STARTED], [2, 'part 0'], [2, 'part 1'], [2, 'part 2']])
  })

  it('goes on in the middle of a line when parts of the next one had been on their way', () => {
    const rig = running()
    rig.part(1, 2, 0, 2)
    rig.commit()
    rig.part(1, 2, 1, 2)
    rig.part(1, 3, 0, 3)
    rig.failStorage()
    rig.connect(2, [held('running', 3)])
    rig.part(2, 2, 1, 2)
    expect(rig.closed.map((c) => c.conn)).toEqual([1])
    expect(rig.pending).toHaveLength(1)
  })

  it.each([
    ['a run of another fence', held('running', 3, RUN, 2)],
    ['a run that nobody knows', held('running', 3, OTHER)],
  ])('gives up %s', (_what, theirs) => {
    const rig = running()
    rig.cut(1)
    rig.connect(2, [theirs, held('running', 1)])
    expect(rig.last('welcome').resume).toMatchObject([{ run: theirs.run, fence: theirs.fence, do: 'revoke' }, { run: RUN, fence: 1, do: 'continue' }])
  })

  it('gives up a run that was only offered: it has no go', () => {
    const rig = new CoreRig()
    rig.connect(1)
    rig.do(rig.core.offer(RUN, 1, SPEC, 0))
    rig.cut(1)
    rig.connect(2, [held('accepted', 0)])
    expect(rig.last('welcome').resume).toMatchObject([{ do: 'revoke' }])
    expect(rig.refused).toMatchObject([{ code: 'no_runner' }])
    expect(rig.core.busy).toBe(0)
  })

  it('gets the go that it missed', () => {
    const rig = new CoreRig()
    rig.connect(1)
    rig.lease()
    rig.cut(1)
    rig.connect(2, [held('accepted', 0)])
    expect(rig.count('lease')).toBe(2)
  })

  it('gets its go when the lease was written while it was away', () => {
    const rig = new CoreRig()
    rig.connect(1)
    rig.do(rig.core.offer(RUN, 1, SPEC, 0))
    rig.receive(1, { t: 'accept', re: rig.last('offer').id, run: RUN, fence: 1, cwd: '/work' })
    rig.cut(1)
    rig.do(rig.core.leased(RUN, 1, true, 0))
    rig.connect(2, [held('accepted', 0)])
    expect(rig.last('lease')).toMatchObject({ re: 'hello-2', l: [[RUN, 1, expect.any(Number)]] })
  })

  it('is told again of a cancel', () => {
    const rig = running()
    rig.do(rig.core.cancel(RUN, 1, 0))
    rig.cut(1)
    rig.connect(2, [held('running', 1)])
    expect(rig.count('cancel')).toBe(2)
  })

  it('is told of a cancel that was asked for while it was away', () => {
    const rig = running()
    rig.cut(1)
    rig.do(rig.core.cancel(RUN, 1, 0))
    expect(rig.count('cancel')).toBe(0)
    rig.connect(2, [held('running', 1)])
    expect(rig.count('cancel')).toBe(1)
  })

  it.each([
    ['without a run', []],
    ['with an older fence of it only', [held('running', 1, RUN, 7)]],
  ])('%s has lost it: the stream ends with a gap and the exit', (_what, runs) => {
    const rig = running()
    rig.lines(1, 2, ['{}'])
    rig.commit()
    rig.cut(1)
    rig.connect(2, runs)
    rig.commit()
    expect(rig.log().slice(2)).toEqual(lostFrom(3))
    expect(rig.kept.at(-1)).toMatchObject({ ending: { state: 'lost', error: { code: 'lost' } }, loss: true })
    expect(rig.core.knows(RUN)).toBe(false)
  })

  it.each([
    ['ends before what was sent from it', held('exited', 2)],
    ['ends with an exit in the place of another event', held('exited', 3)],
  ])('has lost a run whose spool %s', (_what, theirs) => {
    const rig = running()
    rig.lines(1, 2, ['{}', '{}'])
    rig.commit()
    rig.cut(1)
    rig.connect(2, [theirs])
    expect(rig.last('welcome').resume).toMatchObject([{ do: 'revoke' }])
    rig.commit()
    expect(rig.log().slice(3)).toEqual(lostFrom(4))
    expect(rig.kept.at(-1)).toMatchObject({ ending: { error: { message: expect.stringContaining('less of this run than it had sent') } } })
  })

  it('has lost a run whose exit stands where part of a line is kept', () => {
    const rig = running()
    rig.part(1, 2, 0, 2)
    rig.commit()
    rig.cut(1)
    rig.connect(2, [held('exited', 2)])
    rig.commit()
    expect(rig.log().slice(2)).toEqual(lostFrom(2))
  })
})

describe('a runner that does not come back', () => {
  it('has lost its runs after the grace, and is revoked if it returns later', () => {
    const rig = running()
    rig.cut(1)
    rig.tick(GRACE_MS - 1)
    expect(rig.pending).toEqual([])
    rig.tick(1)
    rig.tick(1_000)
    expect(rig.pending).toHaveLength(1)
    rig.commit()
    expect(rig.log()).toEqual([[1, STARTED], ...lostFrom(2)])
    expect(rig.core.idle).toBe(true)
    rig.connect(2, [held('running', 50)])
    expect(rig.last('welcome').resume).toMatchObject([{ do: 'revoke' }])
    rig.lines(2, 2, ['{}'])
    expect(rig.pending).toEqual([])
  })

  it('is given the grace from the start of a restarted router', () => {
    const rig = new CoreRig()
    rig.core.restore([restored()], 0)
    rig.tick(GRACE_MS - 1)
    expect(rig.pending).toEqual([])
    rig.tick(1)
    expect(rig.pending.at(-1)?.ending?.state).toBe('lost')
  })
})
