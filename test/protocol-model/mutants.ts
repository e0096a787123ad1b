/**
 * Faults that the model must see, each as a faulty port or a wrapper around a class of the product. What the protocol
 * forbids twice (late frames are refused by the connection's number and again by their seq) is broken in both places.
 */
import { Intake, type LogRow, type Taken } from '../../router/core/intake.ts'
import { RunnerCore, type Effect } from '../../router/core/runner-core.ts'
import { LogCursor } from '../../router/hub/follow-log.ts'
import { Listener } from '../../router/hub/wakeups.ts'
import type { EventChunk } from '../../router/ports.ts'
import { HeldRun } from '../../runner/held-run.ts'
import { Outbox, type Next } from '../../runner/outbox.ts'
import { decodeEventFrame, encodeEventFrame } from '../../shared/event-frames.ts'
import { DEAD_MS, LEASE_MS, RUN_WINDOW } from '../../shared/limits.ts'
import type { Row } from './ledger.ts'
import { all, replace, type Mutant } from './mutant.ts'
import { acceptBeforeIntent, dropOnSend, inMemorySpool } from './mutants-disk.ts'
import type { Machine } from './runner.ts'
import type { Up } from './wire.ts'
import type { Faults } from './world.ts'

/** The appends of what just arrived, and more effects for each. */
function onAppend(more: (effect: Extract<Effect, { do: 'append' }>) => Effect[]): () => void {
  type Arrived = Extract<Effect, { do: 'append' }>
  const arrived = (e: Effect): e is Arrived => e.do === 'append' && e.append.rows.length > 0 && !e.append.loss
  const add = (effects: Effect[]) => effects.flatMap((e) => (arrived(e) ? [e, ...more(e)] : [e]))
  return all(
    replace(RunnerCore.prototype, 'events', (original) => function (...args) {
      return add(original.apply(this, args))
    }),
    replace(RunnerCore.prototype, 'message', (original) => function (...args) {
      return add(original.apply(this, args))
    }),
  )
}

/** Connections are not told apart: late frames of an old one are taken for the newest one's. */
const mixed = (faults: Faults): Faults => ({
  ...faults,
  late(machine: Machine, frame: Up) {
    if (typeof frame === 'object' && 'close' in frame) return false
    machine.wire?.inbox?.push(typeof frame === 'string' ? frame : frame.buffer)
    return true
  },
})
function positionOf(data: string | Uint8Array): number {
  if (typeof data === 'string') return (JSON.parse(data) as { seq: number }).seq
  const frame = decodeEventFrame(data)
  if (typeof frame === 'string') return 0
  return frame.header.t === 'ev' ? frame.header.first + frame.header.n - 1 : frame.header.seq
}
const ackBeforePersist: Mutant = {
  name: 'ack before persist',
  as: /^I8/,
  patch: () =>
    onAppend(({ append: { run, fence, upTo } }) => [{ do: 'ack', entry: [run, fence, upTo.seq, upTo.part, RUN_WINDOW] }]),
}

const noDedupe: Mutant = {
  name: 'no dedupe',
  as: /^I[123]/,
  patch: () => {
    type Again = Omit<LogRow, 'part' | 'parts'> & Partial<LogRow>
    const again = (row: Again): Taken => ({ ok: true, row: { part: 0, parts: 1, ...row } })
    return all(
      replace(Intake.prototype, 'frame', (original) => function (header, body) {
        const taken = original.call(this, header, body)
        if (taken.ok || taken.why !== 'seen') return taken
        if (header.t === 'ev') return again({ first: header.first, count: header.n, kind: 'ev', bytes: body })
        return again({ first: header.seq, part: header.i, parts: header.of, count: 1, kind: 'part', bytes: body })
      }),
      replace(Intake.prototype, 'mark', (original) => function (seq, bytes) {
        const taken = original.call(this, seq, bytes)
        return taken.ok || taken.why !== 'seen' ? taken : again({ first: seq, count: 1, kind: 'mark', bytes })
      }),
    )
  },
  faults: (faults, { ledger }) => ({
    ...mixed(faults),
    commit: (router, appends) => ledger.write(router, () => appends.map((append) => ledger.apply(append))),
  }),
}

const routerAssignedSeq: Mutant = {
  name: 'router-assigned seq',
  as: /^I[1234]/,
  patch: () =>
    all(
      replace(Intake.prototype, 'frame', (original) => function (header, body) {
        const { seq, part } = this.taken
        return original.call(this, header.t === 'ev' ? { ...header, first: seq + 1 } : { ...header, seq: seq + 1, i: part }, body)
      }),
      replace(Intake.prototype, 'mark', (original) => function (_seq, bytes) {
        return original.call(this, this.taken.seq + 1, bytes)
      }),
    ),
  faults: mixed,
}

const reading = new Set<LogCursor>()
const cursors = new WeakMap<Listener, LogCursor>()
const asked: { by?: LogCursor } = {}
const snapshotThenSubscribe: Mutant = {
  name: 'snapshot, then subscribe',
  as: /^I9: no end in sight: a subscriber/,
  patch: () => {
    reading.clear()
    return all(
      replace(LogCursor.prototype, 'next', (original) => function () {
        asked.by = this
        const page = original.call(this)
        if (page instanceof Promise) {
          reading.add(this)
          void page.finally(() => reading.delete(this)).catch(() => undefined)
        }
        return page
      }),
      replace(Listener.prototype, 'take', (original) => function (after, pageBytes) {
        if (asked.by) cursors.set(this, asked.by)
        return original.call(this, after, pageBytes)
      }),
      replace(Listener.prototype, 'wake', (original) => function () {
        const cursor = cursors.get(this)
        if (!cursor || !reading.has(cursor)) original.call(this)
      }),
    )
  },
}

const unwritten = new Map<string, EventChunk[]>()
const emitBeforePersist: Mutant = {
  name: 'emit before persist',
  as: /^I8/,
  patch: () => {
    unwritten.clear()
    return onAppend(({ append }) => {
      const chunks = append.rows.flatMap(({ kind, first, count, bytes }): EventChunk[] => {
        return kind === 'part' ? [] : [{ kind, first, count, bytes }]
      })
      unwritten.set(append.run, [...(unwritten.get(append.run) ?? []), ...chunks])
      return [{ do: 'wake', run: append.run }]
    })
  },
  faults: (faults) => {
    unwritten.clear()
    return {
      ...faults,
      chunks(row: Row, after: number, maxBytes: number) {
        const durable = faults.chunks(row, after, maxBytes)
        if (durable.length > 0) return durable
        return (unwritten.get(row.id) ?? []).filter((chunk) => chunk.first === after + 1).slice(0, 1)
      },
    }
  },
}

const resumeFromLastSent: Mutant = {
  name: 'resume from last-sent',
  as: /^I[139]/,
  patch: () => {
    const sent = new WeakMap<Outbox, number>()
    return all(
      replace(Outbox.prototype, 'next', (original) => function (...args) {
        const next = original.apply(this, args)
        if (next.do === 'send') sent.set(this, positionOf(next.message.data))
        return next
      }),
      replace(Outbox.prototype, 'resume', (original) => function (ack, part) {
        const last = sent.get(this) ?? 0
        return last > ack ? original.call(this, last, 0) : original.call(this, ack, part)
      }),
    )
  },
}

const newestFirst: Mutant = {
  name: 'newest-first outbox',
  as: /^I[39]/,
  patch: () => {
    const stacks = new WeakMap<Outbox, Next[]>()
    return all(
      replace(Outbox.prototype, 'next', (original) => function (...args) {
        const stack = stacks.get(this) ?? []
        stacks.set(this, stack)
        for (;;) {
          const next = original.apply(this, args)
          if (next.do !== 'send') return stack.pop() ?? next
          stack.push(next)
        }
      }),
      replace(Outbox.prototype, 'resume', (original) => function (...args) {
        stacks.delete(this)
        return original.apply(this, args)
      }),
    )
  },
}

const fenceIgnored: Mutant = {
  name: 'fence ignored',
  as: /^I/,
  faults: (faults, { ledger }) => {
    const fenceOf = (run: string) => ledger.rows.get(run)?.fence ?? 1
    type Ref = { run: string; fence: number }
    type Beat = [string, number, number]
    return {
      ...faults,
      up(frame) {
        if (frame === 'ping') return frame
        if (typeof frame !== 'string') {
          if ('close' in frame) return frame
          const decoded = decodeEventFrame(frame)
          if (typeof decoded === 'string') return frame
          return encodeEventFrame({ ...decoded.header, fence: fenceOf(decoded.header.run) }, decoded.body)
        }
        const message = JSON.parse(frame) as { t: string; runs?: unknown[]; run?: string }
        const { runs = [] } = message
        if (message.t === 'hello') message.runs = (runs as Ref[]).map((r) => ({ ...r, fence: fenceOf(r.run) }))
        else if (message.t === 'hb') message.runs = (runs as Beat[]).map(([run, , last]) => [run, fenceOf(run), last])
        else if (message.run !== undefined) Object.assign(message, { fence: fenceOf(message.run) })
        return JSON.stringify(message)
      },
      commit: (router, appends) => faults.commit(router, appends.map((append) => ({ ...append, fence: fenceOf(append.run) }))),
    }
  },
}

const secondSpawn: Mutant = {
  name: 'second spawn on re-offer',
  as: /^I6/,
  faults: (faults) => {
    const seen = new WeakMap<object, Set<string>>()
    return {
      ...faults,
      receives(machine, message) {
        if (message.t !== 'offer' || !machine.agent) return
        const known = seen.get(machine.agent) ?? new Set()
        seen.set(machine.agent, known)
        const key = `${message.run}.${message.fence}`
        if (known.has(key)) void machine.spawn(message, 'second').turn({ line: () => 0, batch: () => undefined, mark: () => undefined })
        known.add(key)
      },
    }
  },
}

const startWithoutGo: Mutant = {
  name: 'start without go',
  as: /^I6/,
  faults: (faults) => ({
    ...faults,
    sent({ agent }, frame) {
      if (typeof frame !== 'string' || !frame.startsWith('{"t":"accept"')) return
      const { re, run, fence } = JSON.parse(frame) as { re: string; run: string; fence: number }
      queueMicrotask(() => agent?.receive({ t: 'lease', re, l: [[run, fence, LEASE_MS]] }))
    },
  }),
}

const redispatchOnSilence: Mutant = {
  name: 're-dispatch on silence after go',
  as: /^I6/,
  faults: (faults, world) => ({
    ...faults,
    tick() {
      for (const row of world.rows) {
        const machine = world.machines.find(({ who }) => who.runner === row.runner)
        if (!machine || world.time.now - machine.heardAt < DEAD_MS) continue
        if (row.state !== 'leased' && row.state !== 'running') continue
        row.state = 'queued'
        row.runner = null
      }
    },
  }),
}

const creditBlocksLargeLine: Mutant = {
  name: 'credit that blocks a large line',
  as: /^I9: no end/,
  patch: () => {
    const waiting = new WeakMap<Outbox, Next>()
    return all(
      replace(Outbox.prototype, 'next', (original) => function (...args) {
        const before = this.unacked
        const next = waiting.get(this) ?? original.apply(this, args)
        waiting.delete(this)
        if (next.do !== 'send' || before + next.message.bytes <= RUN_WINDOW) return next
        waiting.set(this, next)
        return { do: 'nothing' }
      }),
      replace(Outbox.prototype, 'resume', (original) => function (...args) {
        waiting.delete(this)
        return original.apply(this, args)
      }),
    )
  },
}

const oldGoObeyed: Mutant = {
  name: 'a go obeyed however old it is',
  as: /^I6/,
  patch: () =>
    replace(HeldRun.prototype, 'leased', (original) => function (_ageMs, ttlMs) {
      return original.call(this, 0, ttlMs)
    }),
}

export const mutants: readonly Mutant[] = [
  ackBeforePersist,
  dropOnSend,
  inMemorySpool,
  noDedupe,
  routerAssignedSeq,
  snapshotThenSubscribe,
  emitBeforePersist,
  resumeFromLastSent,
  newestFirst,
  fenceIgnored,
  secondSpawn,
  startWithoutGo,
  redispatchOnSilence,
  creditBlocksLargeLine,
  oldGoObeyed,
  acceptBeforeIntent,
]
