import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { Fault } from '../../shared/faults.ts'
import { sseEvent, sseMessages } from '../../shared/sse.ts'
import { LogCursor } from '../hub/follow-log.ts'
import { Wakeups } from '../hub/wakeups.ts'
import type { EventChunk, RunRow } from '../ports.ts'
import type { Sink } from './body-source.ts'
import { RunStream, type RunStreamParts } from './run-stream.ts'
import type { Framing } from './stream.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

const encoder = new TextEncoder()
const decoder = new TextDecoder()
const row = { id: 'run', tenant: 't', state: 'running' } as RunRow
const framing: Framing = {
  head: encoder.encode('head\n'),
  lines: sseMessages,
  mark: sseEvent,
  end: (seq) => encoder.encode(`end ${seq}\n`),
  queued: (position) => encoder.encode(`queued ${position}\n`),
  comment: () => encoder.encode('comment\n'),
}

interface Seen {
  said: string[]
  over: string
  attending: number
  logged: string[]
  takes: boolean
  hears: boolean
  position: number | undefined
}

/** A log in memory, and one who follows it from the beginning. */
function followed({ row: of = row, ...more }: Partial<RunStreamParts> & { settings?: { blockedMs: number } } = {}) {
  const rows: EventChunk[] = []
  const wakeups = new Wakeups()
  const seen: Seen = { said: [], over: '', attending: 0, logged: [], takes: true, hears: true, position: undefined }
  let trouble: Error | undefined
  const readChunks = async (_run: string, after: number) => {
    await microtasks(2)
    if (trouble) throw trouble
    return rows.filter(({ first }) => first > after).slice(0, 2)
  }
  let why: Error | undefined
  const note = (_fields: object, message: string) => void seen.logged.push(message)
  const deps = {
    hub: {
      follow(run: RunRow, after: number, wake: () => void) {
        return new LogCursor({ store: { readChunks }, wakeups }, run.id, after, () => seen.hears && wake())
      },
      attend: () => {
        seen.attending++
        return () => void seen.attending--
      },
    },
    line: { position: () => Promise.resolve(seen.position) },
    records: { latest: () => Promise.resolve(of) },
    platform: { now: () => 0 },
    settings: more.settings ?? {},
    log: { info: note, warn: note, error: note },
  } as unknown as RunStreamParts['deps']
  const sink: Sink = {
    write(bytes) {
      seen.said.push(decoder.decode(bytes))
      return seen.takes
    },
    end: () => void (seen.over += 'ended'),
    cut: () => void (seen.over += 'cut'),
  }
  const recheck = () => (why ? Promise.reject(why) : Promise.resolve())
  const stream = new RunStream({ deps, row: of, afterSeq: 0, recheck, framing, ...more })
  return {
    seen,
    stream,
    wakeups,
    open: async () => {
      stream.open(sink)
      await vi.advanceTimersByTimeAsync(0)
      return seen
    },
    refuse: (fault: Fault) => void (why = fault),
    fail: (error: Error) => void (trouble = error),
    /** Durable, and told in the way that a hub tells it. */
    commit: async (text: string, kind: 'ev' | 'mark' = 'ev') => {
      const chunk = { kind, first: rows.length + 1, count: 1, bytes: encoder.encode(text) }
      rows.push(chunk)
      wakeups.handOver(of.id, [{ ...chunk, part: 0, parts: 1 }])
      wakeups.wake(of.id)
      await vi.advanceTimersByTimeAsync(0)
    },
  }
}

const event = (id: number, line: string) => `id: ${id}\nevent: message\ndata: ${line}\n\n`
const LONG = 61_000

async function microtasks(count: number) {
  for (let i = 0; i < count; i++) await Promise.resolve()
}

describe('a stream', () => {
  it('says its head, what there was, what comes and its end, and then nobody is there any more', async () => {
    const { open, commit, seen } = followed()
    await commit('a\n')
    await commit('b\n')
    await commit('c\n')
    await open()
    expect(seen.attending).toBe(1)
    await commit('d\n')
    await commit('{"kind":"gap"}', 'mark')
    await commit('{"kind":"exit"}', 'mark')
    const lines = ['a', 'b', 'c', 'd'].map((line, i) => event(i + 1, line))
    expect(seen.said).toEqual(['head\n', ...lines, 'id: 5\nevent: gap\ndata: {"kind":"gap"}\n\n', 'end 6\n'])
    expect(seen).toMatchObject({ over: 'ended', attending: 0 })
    expect(vi.getTimerCount()).toBe(0)
  })

  it('says what was committed, at whatever moment of its looks it was told', async () => {
    for (let toFirst = 0; toFirst < 5; toFirst++) {
      for (let between = 0; between < 12; between++) {
        const { open, commit, seen, stream, wakeups } = followed()
        const opened = open()
        await microtasks(toFirst)
        // For nothing: this makes it read once more.
        wakeups.wake(row.id)
        await microtasks(between)
        await commit('a\n')
        await opened
        expect([toFirst, between, ...seen.said]).toEqual([toFirst, between, 'head\n', event(1, 'a')])
        stream.gone()
      }
    }
  })

  it('says within a second what it was not woken for', async () => {
    const { open, commit, seen } = followed()
    await open()
    seen.hears = false
    await commit('a\n')
    expect(seen.said).toEqual(['head\n'])
    await vi.advanceTimersByTimeAsync(1_000)
    expect(seen.said).toEqual(['head\n', event(1, 'a')])
  })

  it('says nothing more to a client that takes nothing, and goes on where it was', async () => {
    const { open, commit, seen, stream } = followed()
    await open()
    seen.takes = false
    for (const line of ['a\n', 'b\n', 'c\n']) await commit(line)
    expect(seen.said).toEqual(['head\n', event(1, 'a')])
    seen.takes = true
    stream.drained()
    await vi.advanceTimersByTimeAsync(0)
    expect(seen.said.slice(2)).toEqual([event(2, 'b'), event(3, 'c')])
  })

  it('lets a client go that takes nothing for long, and none that takes something now and then', async () => {
    const { open, commit, seen, stream } = followed({ settings: { blockedMs: 20_000 } })
    await open()
    seen.takes = false
    await commit('a\n')
    await vi.advanceTimersByTimeAsync(19_000)
    stream.drained()
    await commit('b\n')
    await vi.advanceTimersByTimeAsync(19_000)
    expect(seen.over).toBe('')
    await vi.advanceTimersByTimeAsync(2_000)
    expect(seen).toMatchObject({ over: 'cut', attending: 0, logged: ['a subscriber that does not read was let go'] })
    expect(vi.getTimerCount()).toBe(0)
  })

  it('says that it lives while it has nothing to say', async () => {
    const { open, commit, seen } = followed()
    await open()
    await vi.advanceTimersByTimeAsync(10_000)
    await commit('a\n')
    await vi.advanceTimersByTimeAsync(14_000)
    expect(seen.said).toEqual(['head\n', event(1, 'a')])
    await vi.advanceTimersByTimeAsync(17_000)
    expect(seen.said.slice(2)).toEqual(['comment\n', 'comment\n'])
  })

  it('is over for one whose token is no longer good: ended, or cut when he does not read', async () => {
    const reads = followed()
    const blocked = followed()
    for (const { open } of [reads, blocked]) await open()
    await vi.advanceTimersByTimeAsync(LONG)
    blocked.seen.takes = false
    await blocked.commit('a\n')
    for (const { refuse } of [reads, blocked]) refuse(new Fault('unauthenticated'))
    await vi.advanceTimersByTimeAsync(5_250)
    expect([reads.seen, blocked.seen].map(({ over, attending }) => [over, attending])).toEqual([['ended', 0], ['cut', 0]])
  })

  it('goes on while nobody can be asked about a token', async () => {
    const { open, refuse, seen } = followed()
    refuse(new Fault('storage'))
    await open()
    await vi.advanceTimersByTimeAsync(LONG)
    expect(seen.over).toBe('')
  })

  it('is cut when the log cannot be read, and says why to the log alone', async () => {
    const { open, fail, seen } = followed()
    fail(new Error('select secret'))
    await open()
    expect(seen).toMatchObject({ said: ['head\n'], over: 'cut', attending: 0, logged: ['a stream was cut'] })
  })

  it('says no more to a client that has gone', async () => {
    const { open, commit, stream, seen } = followed()
    await open()
    stream.gone()
    stream.gone()
    await commit('a\n')
    stream.drained()
    await vi.advanceTimersByTimeAsync(LONG)
    expect(seen).toMatchObject({ said: ['head\n'], over: '', attending: 0 })
  })

  it('ends without an end of the run when the router stops', async () => {
    const { open, wakeups, seen } = followed()
    await open()
    wakeups.close()
    await vi.advanceTimersByTimeAsync(0)
    expect(seen).toMatchObject({ said: ['head\n'], over: 'ended' })
  })

  it('says the place of a run that waits each time it is another one, until there is an event', async () => {
    const { open, commit, seen } = followed({ row: { ...row, state: 'queued' } })
    seen.position = 3
    await open()
    await vi.advanceTimersByTimeAsync(5_000)
    seen.position = 2
    await vi.advanceTimersByTimeAsync(1_250)
    expect(seen.said).toEqual(['head\n', 'queued 3\n', 'queued 2\n'])
    await commit('a\n')
    seen.position = 1
    await vi.advanceTimersByTimeAsync(5_000)
    expect(seen.said.slice(3)).toEqual([event(1, 'a')])
  })
})
