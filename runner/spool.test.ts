import { appendFileSync, mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync, readdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
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
  while (all.length < spool.last) {
    const read = spool.read(all.length + 1, 64)!
    if (read.kind === 'mark') all.push(read.mark)
    else all.push(...read.lines.map((line) => Buffer.from(line).toString('latin1')))
  }
  return all
}

type Item = { line: Uint8Array } | { mark: Mark }
const someLine = fc.uint8Array({ maxLength: 90 }).map((line): Item => ({ line }))
const someItems = fc.array(fc.oneof({ weight: 4, arbitrary: someLine }, { weight: 1, arbitrary: fc.constant<Item>({ mark: stderr }) }), { maxLength: 12 })

/** Writes a spool; `ends` is the size of the file after the intent, after the start, and after each item. */
async function write(items: readonly Item[]): Promise<{ path: string; ends: number[]; expected: (string | Mark)[] }> {
  const path = freshPath()
  const spool = Spool.create(path, intent)
  const ends = [spool.bytes]
  await spool.starting()
  ends.push(spool.bytes)
  const expected = items.map((item) => {
    const seq = 'line' in item ? spool.line(item.line) : spool.mark(item.mark)
    expect(seq).toBe(ends.length - 1)
    ends.push(spool.bytes)
    return 'line' in item ? Buffer.from(item.line).toString('latin1') : item.mark
  })
  spool.close()
  return { path, ends, expected }
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
        expect(back).toEqual({ last: items.length, intent, started: true, all: expected })
      }),
    )
  })

  it('has every whole record, and goes on right behind it, wherever a crash cut the file off', async () => {
    await fc.assert(
      fc.asyncProperty(someItems, fc.nat(), async (items, at) => {
        const { path, ends, expected } = await write(items)
        const size = ends[0]! + (at % (ends.at(-1)! - ends[0]! + 1))
        truncateSync(path, size)
        const whole = ends.filter((end) => end <= size).length
        reopened(path, (spool) => {
          expect(spool.hasStarted).toBe(whole > 1)
          expect(contents(spool)).toEqual(expected.slice(0, Math.max(0, whole - 2)))
          expect(spool.torn).toBe(!ends.includes(size))
          expect(spool.mark(exit)).toBe(Math.max(0, whole - 2) + 1)
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
        const place = ends[0]! + (at % (bytes.length - ends[0]!))
        bytes[place] = bytes[place]! ^ flip
        writeFileSync(path, bytes)
        const whole = ends.filter((end) => end <= place).length
        reopened(path, (spool) => {
          expect(contents(spool)).toEqual(expected.slice(0, Math.max(0, whole - 2)))
          expect(spool.hasStarted).toBe(whole > 1)
          expect(spool.torn).toBe(true)
        })
      }),
      { numRuns: 200 },
    )
  })

  it('is none without a whole intent', async () => {
    const { path, ends } = await write([{ line: Buffer.from('{}') }])
    const bytes = readFileSync(path)
    for (const size of [0, 1, 8, ends[0]! - 1]) {
      writeFileSync(path, bytes.subarray(0, size))
      expect(Spool.open(path)).toBeUndefined()
    }
    writeFileSync(path, 'not a spool at all, but something else that lies in the folder')
    expect(Spool.open(path)).toBeUndefined()
    // It is left as it is: it may be somebody's.
    expect(statSync(path).size).toBeGreaterThan(0)
  })

  it('is not made twice for the same run', async () => {
    const { path } = await write([{ line: Buffer.from('{}') }])
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
    look()
    spool.mark(exit)
    look()
    spool.remove()
    expect(states).toEqual([[false, false], [true, false], [true, false], [true, false], [true, true]])
  })

  it('reads lines up to a size, at least one, and never across a mark', () => {
    const spool = Spool.create(freshPath(), intent)
    for (let i = 0; i < 4; i++) spool.line(Buffer.alloc(9, 0x61))
    spool.mark(stderr)
    spool.line(Buffer.alloc(500, 0x62))
    const linesAt = (seq: number, maxBytes: number) => {
      const read = spool.read(seq, maxBytes)
      return read?.kind === 'lines' ? read.lines.length : read?.kind
    }
    expect([linesAt(1, 1), linesAt(1, 20), linesAt(1, 29), linesAt(1, 30), linesAt(2, 1_000)]).toEqual([1, 2, 2, 3, 3])
    expect([linesAt(5, 1), linesAt(6, 1), linesAt(7, 1)]).toEqual(['mark', 1, undefined])
    spool.remove()
  })

  it('knows how much is still to be acknowledged', () => {
    const spool = Spool.create(freshPath(), intent)
    const before = spool.bytes
    spool.line(Buffer.alloc(100))
    spool.line(Buffer.alloc(50))
    expect(spool.bytesAfter(0)).toBeGreaterThanOrEqual(150)
    expect(spool.bytesAfter(0)).toBeLessThanOrEqual(spool.bytes - before)
    expect(spool.bytesAfter(1)).toBe(50)
    expect([spool.bytesAfter(2), spool.bytesAfter(99)]).toEqual([0, 0])
    spool.remove()
  })

  it('carries a line of several megabytes', async () => {
    const line = Buffer.alloc(3_000_000, '€')
    const { path } = await write([{ line }, { mark: exit }])
    reopened(path, (spool) => {
      const read = spool.read(1, 64)
      expect(read?.kind === 'lines' && Buffer.from(read.lines[0]!).equals(line)).toBe(true)
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
    await Promise.all([spool.sync(), spool.sync()])
    spool.remove()
    await expect(spool.sync()).resolves.toBeUndefined()
  })

  it('takes nothing more when it is closed, and keeps what it had', async () => {
    const { path, expected } = await write([{ line: Buffer.from('{"kept":true}') }])
    const spool = Spool.open(path)!
    spool.close()
    expect(() => spool.line(Buffer.from('{}'))).toThrow('the spool is closed')
    expect(reopened(path, contents)).toEqual(expected)
  })

  it('is not confused by what a stranger appended', async () => {
    const { path, expected } = await write([{ line: Buffer.from('{}') }])
    appendFileSync(path, Buffer.from([3, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]))
    expect(reopened(path, contents)).toEqual(expected)
  })
})
