import { appendFileSync, mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync, readdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { COALESCE_BYTES } from '../shared/limits.ts'
import type { Mark } from '../shared/marks.ts'
import { Spool, type Intent } from './spool.ts'

const session = '0190a8c4-7c1e-7000-8000-000000000001'
const intent: Intent = { run: `run_${'a'.repeat(32)}`, fence: 3, tenant: 'default', session, marker: session }
const exit: Mark = { kind: 'exit', code: 0, signal: null, reason: 'completed', duration_ms: 1 }
const stderr: Mark = { kind: 'stderr', text: 'oh', truncated: false }

let dir = ''
let count = 0
beforeAll(() => (dir = mkdtempSync(join(tmpdir(), 'runyard-spool-'))))
afterAll(() => rmSync(dir, { recursive: true, force: true }))
const freshPath = () => join(dir, `${++count}.spool`)

/** Everything from seq 1 on, as it will be sent. */
function contents(spool: Spool): (string | Mark)[] {
  const all: (string | Mark)[] = []
  const counts: [number, number][] = []
  while (all.length < spool.last) {
    const read = spool.read(all.length + 1, 64)!
    const found = read.kind === 'mark' ? [read.mark] : textsOf(read.bytes)
    counts.push([found.length, read.kind === 'mark' ? 1 : read.count])
    all.push(...found)
  }
  for (const [found, told] of counts) expect(found).toBe(told)
  return all
}
const textsOf = (bytes: Uint8Array) => Buffer.from(bytes).toString('latin1').slice(0, -1).split('\n')

/** `flush`: it is the last one of what is written together. `ended`: it is taken with its `\n`, twice at once. */
type Item = { line: Uint8Array; flush: boolean; ended?: boolean } | { mark: Mark }
const someLine = fc.record({ line: fc.uint8Array({ maxLength: 90 }).map((bytes) => bytes.filter((byte) => byte !== 0x0a)), flush: fc.boolean(), ended: fc.boolean() })
const someItems = fc.array(fc.oneof({ weight: 4, arbitrary: someLine }, { weight: 1, arbitrary: fc.constant<Item>({ mark: stderr }) }), { maxLength: 12 })

/** Where a record of the spool ends, and the events up to there. The first two are the intent and the start. */
type End = { size: number; events: number }

async function write(items: readonly Item[]): Promise<{ path: string; ends: End[]; expected: (string | Mark)[] }> {
  const path = freshPath()
  const spool = Spool.create(path, intent)
  const ends = [{ size: spool.bytes, events: 0 }]
  await spool.starting()
  ends.push({ size: spool.bytes, events: 0 })
  const written = () => void (spool.bytes > ends.at(-1)!.size && ends.push({ size: spool.bytes, events: spool.last }))
  const seqs: number[] = []
  for (const item of items) {
    if ('line' in item) {
      if (item.ended) {
        const whole = Buffer.from([...item.line, 0x0a])
        spool.lines(Buffer.concat([whole, whole]), 2)
        seqs.push(spool.lastTaken - 1, spool.lastTaken)
      } else seqs.push(spool.line(item.line))
      if (item.flush) spool.flush()
    } else {
      spool.flush()
      written()
      seqs.push(spool.mark(item.mark))
    }
    written()
  }
  spool.flush()
  written()
  spool.close()
  const expected = items.flatMap((item): (string | Mark)[] => {
    if (!('line' in item)) return [item.mark]
    const text = Buffer.from(item.line).toString('latin1')
    return item.ended ? [text, text] : [text]
  })
  expect(seqs).toEqual(expected.map((_, i) => i + 1))
  return { path, ends, expected }
}

/** What is whole in a file of which nothing behind `size` can be believed. */
function wholeAt(ends: readonly End[], size: number): { started: boolean; events: number } {
  const whole = ends.filter((end) => end.size <= size)
  return { started: whole.length > 1, events: whole.at(-1)?.events ?? 0 }
}

function reopened<T>(path: string, look: (spool: Spool) => T): T {
  const spool = Spool.open(path)
  if (!spool) throw new Error('the spool has no intent')
  try {
    return look(spool)
  } finally {
    spool.remove()
  }
}

describe('a spool', () => {
  it('gives back what was written, byte for byte, also after it was opened again', async () => {
    await fc.assert(
      fc.asyncProperty(someItems, async (items) => {
        const { path, expected } = await write(items)
        const back = reopened(path, (spool) => ({ last: spool.last, intent: spool.intent, started: spool.hasStarted, all: contents(spool) }))
        expect(back).toEqual({ last: expected.length, intent, started: true, all: expected })
      }),
    )
  })

  it('has every whole record, and goes on right behind it, wherever a crash cut the file off', async () => {
    await fc.assert(
      fc.asyncProperty(someItems, fc.nat(), async (items, at) => {
        const { path, ends, expected } = await write(items)
        const size = ends[0]!.size + (at % (ends.at(-1)!.size - ends[0]!.size + 1))
        truncateSync(path, size)
        const { started, events } = wholeAt(ends, size)
        reopened(path, (spool) => {
          expect(spool.hasStarted).toBe(started)
          expect(contents(spool)).toEqual(expected.slice(0, events))
          expect(spool.torn).toBe(ends.every((end) => end.size !== size))
          expect(spool.mark(exit)).toBe(events + 1)
          expect(spool.hasExit).toBe(true)
        })
      }),
      { numRuns: 200 },
    )
  })

  it('ends at a record of which any bit was changed, and never shows a wrong one', async () => {
    await fc.assert(
      fc.asyncProperty(someItems, fc.nat(), fc.integer({ min: 1, max: 255 }), async (items, at, flip) => {
        const { path, ends, expected } = await write(items)
        const bytes = readFileSync(path)
        const place = ends[0]!.size + (at % (bytes.length - ends[0]!.size))
        bytes[place] = bytes[place]! ^ flip
        writeFileSync(path, bytes)
        const { started, events } = wholeAt(ends, place)
        reopened(path, (spool) => {
          expect(contents(spool)).toEqual(expected.slice(0, events))
          expect(spool.hasStarted).toBe(started)
          expect(spool.torn).toBe(true)
        })
      }),
      { numRuns: 200 },
    )
  })

  it('is none without a whole intent', async () => {
    const { path, ends } = await write([{ line: Buffer.from('{}'), flush: true }])
    const bytes = readFileSync(path)
    for (const size of [0, 1, 8, ends[0]!.size - 1]) {
      writeFileSync(path, bytes.subarray(0, size))
      expect(Spool.open(path)).toBeUndefined()
    }
    writeFileSync(path, 'not a spool at all, but something else that lies in the folder')
    expect(Spool.open(path)).toBeUndefined()
    // It is left as it is: it may be somebody's.
    expect(statSync(path).size).toBeGreaterThan(0)
  })

  it('is not made twice for the same run', async () => {
    const { path } = await write([{ line: Buffer.from('{}'), flush: true }])
    const before = readFileSync(path)
    expect(() => Spool.create(path, intent)).toThrow(/EEXIST/)
    expect(readFileSync(path)).toEqual(before)
  })

  it('is readable by its owner only, and holds nothing of the prompt', () => {
    const path = freshPath()
    const spool = Spool.create(path, { ...intent, prompt: 'my secret' } as Intent)
    expect(statSync(path).mode & 0o777).toBe(0o600)
    spool.close()
    expect(reopened(path, (again) => again.intent)).toEqual(intent)
  })

  it('says whether it has started and whether it has ended', async () => {
    const spool = Spool.create(freshPath(), intent)
    const states: [boolean, boolean][] = []
    const look = () => states.push([spool.hasStarted, spool.hasExit])
    look()
    await spool.starting()
    look()
    spool.mark(stderr)
    look()
    spool.line(Buffer.from('{"kind":"exit"}'))
    spool.flush()
    look()
    spool.mark(exit)
    look()
    spool.remove()
    expect(states).toEqual([[false, false], [true, false], [true, false], [true, false], [true, true]])
  })

  it('reads lines up to a size, at least one, and never across a mark', () => {
    const spool = Spool.create(freshPath(), intent)
    for (let i = 0; i < 4; i++) {
      spool.line(Buffer.alloc(9, 0x61))
      spool.flush()
    }
    spool.mark(stderr)
    spool.line(Buffer.alloc(500, 0x62))
    spool.flush()
    const linesAt = (seq: number, maxBytes: number) => {
      const read = spool.read(seq, maxBytes)
      return read?.kind === 'lines' ? read.count : read?.kind
    }
    expect([linesAt(1, 1), linesAt(1, 20), linesAt(1, 29), linesAt(1, 30), linesAt(2, 1_000)]).toEqual([1, 2, 2, 3, 3])
    expect([linesAt(5, 1), linesAt(6, 1), linesAt(7, 1)]).toEqual(['mark', 1, undefined])
    spool.remove()
  })

  it('goes on in the middle of what was written together', () => {
    const spool = Spool.create(freshPath(), intent)
    for (const text of ['a', '', 'ccc']) spool.line(Buffer.from(text))
    spool.flush()
    spool.line(Buffer.from('d'))
    spool.flush()
    const textAt = (seq: number, maxBytes: number) => {
      const read = spool.read(seq, maxBytes)
      return read?.kind === 'lines' ? Buffer.from(read.bytes).toString() : undefined
    }
    expect([textAt(1, 100), textAt(2, 100), textAt(3, 8), textAt(4, 1)]).toEqual(['a\n\nccc\nd\n', '\nccc\nd\n', 'ccc\n', 'd\n'])
    spool.remove()
  })

  it('shows a line when it is written, and writes what would make a frame too large before that', () => {
    const spool = Spool.create(freshPath(), intent)
    expect([spool.line(Buffer.from('{}')), spool.lastTaken, spool.last, spool.read(1, 10)]).toEqual([1, 1, 0, undefined])
    expect([spool.line(Buffer.alloc(2 * COALESCE_BYTES - 4)), spool.last]).toEqual([2, 0])
    expect([spool.line(Buffer.alloc(0)), spool.last]).toEqual([3, 2])
    expect([spool.mark(exit), spool.last, spool.hasExit]).toEqual([4, 4, true])
    spool.remove()
  })

  it('forgets what it could not write, so that an ending finds the room that is left', () => {
    const spool = Spool.create(freshPath(), intent)
    spool.line(Buffer.from('{}'))
    spool.close()
    expect(spool.lastTaken).toBe(1)
    expect(() => spool.flush()).toThrow('the spool is closed')
    expect([spool.last, spool.lastTaken]).toEqual([0, 0])
    spool.remove()
  })

  it('knows how much is still to be acknowledged', () => {
    const spool = Spool.create(freshPath(), intent)
    const before = spool.bytes
    for (const size of [100, 50]) {
      spool.line(Buffer.alloc(size))
      spool.flush()
    }
    expect(spool.bytesAfter(0)).toBeGreaterThanOrEqual(150)
    expect(spool.bytesAfter(0)).toBeLessThanOrEqual(spool.bytes - before)
    expect(spool.bytesAfter(1)).toBe(51)
    expect([spool.bytesAfter(2), spool.bytesAfter(99)]).toEqual([0, 0])
    spool.remove()
  })

  it('carries a line of several megabytes', async () => {
    const line = Buffer.alloc(3_000_000, '€')
    const { path } = await write([{ line, flush: true }, { mark: exit }])
    reopened(path, (spool) => {
      const read = spool.read(1, 64)
      expect(read?.kind === 'lines' && Buffer.from(read.bytes.subarray(0, -1)).equals(line)).toBe(true)
      expect(spool.hasExit).toBe(true)
    })
  })

  it('leaves nothing behind, and may be removed twice', () => {
    const path = freshPath()
    const spool = Spool.create(path, intent)
    spool.line(Buffer.from('{}'))
    spool.remove()
    spool.remove()
    spool.close()
    expect(readdirSync(dir)).not.toContain(path.split('/').at(-1))
  })

  it('can be synced at any time', async () => {
    const spool = Spool.create(freshPath(), intent)
    spool.line(Buffer.from('{}'))
    spool.flush()
    await Promise.all([spool.sync(), spool.sync()])
    spool.remove()
    await expect(spool.sync()).resolves.toBeUndefined()
  })

  it('takes nothing more when it is closed, and keeps what it had', async () => {
    const { path, expected } = await write([{ line: Buffer.from('{"kept":true}'), flush: true }])
    const spool = Spool.open(path)!
    spool.close()
    expect(() => spool.line(Buffer.from('{}'))).toThrow('the spool is closed')
    expect(() => spool.mark(exit)).toThrow('the spool is closed')
    expect(reopened(path, contents)).toEqual(expected)
  })

  it('is not confused by what a stranger appended', async () => {
    const { path, expected } = await write([{ line: Buffer.from('{}'), flush: true }])
    appendFileSync(path, Buffer.from([3, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]))
    expect(reopened(path, contents)).toEqual(expected)
  })
})
