import { describe, expect, it } from 'vitest'
import { decodeEventFrame } from '../shared/event-frames.ts'
import { CONNECTION_WINDOW, RUN_WINDOW } from '../shared/limits.ts'
import type { Clock } from './clock.ts'
import { Outbox, type SpoolSource } from './outbox.ts'
import { Sender } from './sender.ts'

const LINE = 60 * 1024
const clock = { now: () => 0, after: () => () => undefined } as unknown as Clock

/** A run with as many long lines as anybody wants; counts how often it is looked at. */
function endless(n: number): { outbox: Outbox; looks: () => number } {
  let looks = 0
  const run = `run_${n.toString(16).padStart(32, '0')}`
  const source: SpoolSource = {
    intent: { run, fence: 1 },
    get last() {
      looks++
      return 1_000
    },
    isMark: () => false,
    read: (seq) => ({ kind: 'lines', first: seq, count: 1, bytes: Buffer.from(`${'x'.repeat(LINE - 1)}\n`) }),
    bytesAfter: () => 1_000 * LINE,
  }
  return { outbox: new Outbox(source), looks: () => looks }
}

function opened(runs: number) {
  const sent: [string, number][] = []
  const sender = new Sender(clock)
  const all = Array.from({ length: runs }, (_, n) => endless(n))
  for (const { outbox } of all) sender.add(outbox)
  const send = (data: string | Uint8Array) => {
    const frame = decodeEventFrame(data as Uint8Array)
    if (typeof frame !== 'string' && frame.header.t === 'ev') sent.push([frame.header.run, frame.header.first])
  }
  sender.open({ send, buffered: 0 })
  return { sender, all, sent }
}

describe('what of many runs is sent', () => {
  it('goes on for the runs that an ack is for, and the others are not looked at', () => {
    const { sender, all, sent } = opened(3)
    const [first, second] = [all[0]!, all[1]!]
    const before = { sent: sent.length, looks: second.looks() }
    first.outbox.ack(2, 0, RUN_WINDOW)
    sender.relieved([first.outbox])
    expect(sent.slice(before.sent).map(([run]) => run)).toEqual([`run_${'0'.repeat(32)}`, `run_${'0'.repeat(32)}`])
    expect(second.looks()).toBe(before.looks)
  })

  it('goes on for a run that had no credit of the connection left, when another one gives some back', () => {
    const { sender, all, sent } = opened(40)
    const ofRun16 = () => sent.filter(([run]) => run.endsWith('010')).length
    expect(sent.length * LINE).toBeGreaterThanOrEqual(CONNECTION_WINDOW - LINE)
    expect(ofRun16()).toBe(1)
    // Ten of those that have it all come to their end.
    for (const { outbox } of all.slice(0, 10)) {
      outbox.ack(1_000, 0, RUN_WINDOW)
      sender.remove(outbox)
    }
    sender.relieved([all[10]!.outbox])
    expect(ofRun16()).toBeGreaterThan(1)
  })

  it('has nothing more of a run that was let go of, though it still has something to send', () => {
    const { sender, all, sent } = opened(1)
    const { outbox } = all[0]!
    const before = sent.length
    outbox.ack(2, 0, RUN_WINDOW)
    sender.remove(outbox)
    sender.pump(outbox)
    expect(sent.length).toBe(before)
  })
})
