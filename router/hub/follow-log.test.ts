import { setImmediate as nextTurn } from 'node:timers/promises'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { LogRow } from '../core/intake.ts'
import type { EventChunk, Page } from '../ports.ts'
import { followLog } from './follow-log.ts'
import { Wakeups } from './wakeups.ts'

const encoder = new TextEncoder()
const EXIT = encoder.encode('{"kind":"exit"}')

/** A log in memory that counts how often it is read. */
function logOf(pageBytes = 100) {
  const rows: EventChunk[] = []
  const wakeups = new Wakeups()
  let reads = 0
  return {
    wakeups,
    get reads() {
      return reads
    },
    /** Durable, and told in the way that the hub tells it. */
    commit(bytes: Uint8Array, kind: 'ev' | 'mark' = 'ev', { hands = true } = {}) {
      const row: LogRow = { first: rows.length + 1, part: 0, parts: 1, count: 1, kind, bytes }
      rows.push({ kind, first: row.first, count: 1, bytes })
      if (hands) wakeups.handOver('run', [row])
      wakeups.wake('run')
    },
    follow(after: number, signal = new AbortController().signal) {
      const readChunks = async (_run: string, from: number) => {
        reads++
        const page = rows.slice(from, from + 3)
        // Whatever is committed now is not in this page.
        await nextTurn()
        return page
      }
      return followLog({ store: { readChunks }, wakeups, pageBytes }, 'run', after, signal)
    },
  }
}

async function seen(pages: AsyncIterable<Page>): Promise<number[]> {
  const firsts: number[] = []
  for await (const page of pages) firsts.push(...page.map(({ first }) => first))
  return firsts
}

describe('a follower', () => {
  it('who stands at the end of the log does not read it', async () => {
    const log = logOf()
    const following = seen(log.follow(0))
    await nextTurn()
    await nextTurn()
    for (let i = 0; i < 10; i++) {
      log.commit(encoder.encode('{}\n'))
      await nextTurn()
    }
    log.commit(EXIT, 'mark')
    expect(await following).toEqual(Array.from({ length: 11 }, (_, i) => i + 1))
    expect(log.reads).toBe(1)
  })

  it('sees each event once and in order, whatever is handed over and whenever he looks', async () => {
    const step = fc.record({ hands: fc.boolean(), big: fc.boolean(), turns: fc.nat(3) })
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 30 }), fc.nat(10), async (steps, wish) => {
        const log = logOf()
        const after = Math.min(wish, steps.length)
        const following = seen(log.follow(after))
        for (const { hands, big, turns } of steps) {
          log.commit(new Uint8Array(big ? 40_000 : 10), 'ev', { hands })
          for (let i = 0; i < turns; i++) await nextTurn()
        }
        log.commit(EXIT, 'mark')
        expect(await following).toEqual(Array.from({ length: steps.length + 1 - after }, (_, i) => after + i + 1))
      }),
    )
  })

  it('is given a page at a time of what was handed over while he was busy, and does not read it', async () => {
    const log = logOf()
    const pages = log.follow(0)
    const next = async () => {
      const { value } = await pages.next()
      return value?.map(({ first }) => first)
    }
    const waiting = next()
    await nextTurn()
    await nextTurn()
    for (let i = 0; i < 5; i++) log.commit(new Uint8Array(50))
    log.commit(EXIT, 'mark')
    expect([await waiting, await next(), await next(), await next()]).toEqual([[1, 2], [3, 4], [5, 6], undefined])
    expect(log.reads).toBe(1)
  })

  it('ends when nobody wants to hear more, and when the hub closes', async () => {
    const log = logOf()
    const stop = new AbortController()
    const ends = [seen(log.follow(0, stop.signal)), seen(log.follow(0))]
    await nextTurn()
    stop.abort()
    expect(await ends[0]).toEqual([])
    log.wakeups.close()
    expect(await ends[1]).toEqual([])
  })
})
