import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { uuidOfRun } from '../../../shared/ids.ts'
import type { Deps, RunRow } from '../../ports.ts'
import { endOf, streamId } from './stream.ts'
import { lengthSoFar, MAX_CHARS, StreamText, textSoFar } from './stream-text.ts'

const delta = (text: unknown, more: object = {}) => JSON.stringify({ type: 'stream_event', event: { type: 'content_block_delta', delta: { type: 'text_delta', text } }, ...more })
const whole = (...texts: unknown[]) => JSON.stringify({ type: 'assistant', message: { content: texts.map((text) => ({ type: 'text', text })) } })
const read = (...lines: string[]) => {
  const text = new StreamText()
  for (const line of lines) text.add(line)
  return text.value
}

describe('the text of a stream', () => {
  it('is that of its pieces, and of whole messages only where there are no pieces', () => {
    expect(read(delta('Hel'), delta('lo'), whole('Hello'))).toBe('Hello')
    expect(read(whole('Hel'), '{"type":"user"}', whole('lo', ' there'))).toBe('Hello there')
    expect(read('{"type":"system"}', '')).toBe('')
  })

  it('has nothing of subagents, tools and thoughts', () => {
    expect(read(delta('a'), delta('no', { parent_tool_use_id: 'toolu_1' }), delta('b', { parent_tool_use_id: null }))).toBe('ab')
    expect(read('{"type":"assistant","message":{"content":[{"type":"tool_use","input":{"text":"no"}},{"type":"thinking","thinking":"no"}]}}')).toBe('')
    expect(read('{"type":"stream_event","event":{"delta":{"type":"thinking_delta","thinking":"text_delta"}}}')).toBe('')
  })

  it('is there for every text, cut anywhere', () => {
    fc.assert(
      fc.property(fc.array(fc.string({ unit: 'grapheme' })), (pieces) => {
        expect(read(...pieces.map((piece) => delta(piece)))).toBe(pieces.join(''))
      }),
    )
  })

  it('is not put off by lines that are like nothing the CLI prints', () => {
    const odd = fc.oneof(fc.json(), fc.string(), fc.constantFrom('{"type":"assistant"', '{"type":"assistant","message":null}', '{"type":"assistant","message":{"content":[null,1]}}', delta(5), delta(null)))
    const wrapped = fc.json().map((json) => `{"type":"assistant","message":${json}}`)
    fc.assert(
      fc.property(fc.array(fc.oneof(odd, wrapped)), (lines) => {
        expect(read(...lines)).toBeTypeOf('string')
      }),
    )
  })
})

describe('a text that is too long', () => {
  it.each([
    [0, false],
    [1, true],
  ])('is cut at its front, with %i more than is kept', (more, truncated) => {
    const text = new StreamText()
    text.add(delta('x'.repeat(more)))
    text.add(delta('y'.repeat(MAX_CHARS)))
    expect(text.length).toBe(MAX_CHARS + more)
    expect(text.content).toEqual({ content: 'y'.repeat(MAX_CHARS), ...(truncated ? { truncated: true } : {}) })
  })

  it('is never cut in the middle of a character', () => {
    const text = new StreamText()
    for (const piece of ['漢🎈', 'z'.repeat(MAX_CHARS - 1)]) text.add(delta(piece))
    expect(text.value).toBe('z'.repeat(MAX_CHARS - 1))
  })

  it('takes no more room than twice what is kept', () => {
    const text = new StreamText()
    for (let i = 0; i < 40; i++) text.add(delta(String(i % 10).repeat(MAX_CHARS / 10)))
    expect([text.length, text.value.length, text.value.at(-1)]).toEqual([4 * 10 * Math.trunc(MAX_CHARS / 10), MAX_CHARS, '9'])
  })
})

describe('a log', () => {
  /** Pages of ten events, as a hub reads them. */
  function logOf(lines: readonly string[]) {
    const seen = { pages: 0 }
    const page = (after: number) => {
      const some = lines.slice(after, after + 10)
      seen.pages++
      return [{ kind: 'ev' as const, first: after + 1, count: some.length, bytes: Buffer.from(some.map((line) => `${line}\n`).join('')) }]
    }
    async function* events(_row: RunRow, after: number) {
      for (let at = after; at < lines.length; at += 10) yield await Promise.resolve(page(at))
    }
    const parts = { hub: { events }, platform: { now: () => performance.now() }, records: { lastSeq: () => Promise.resolve(lines.length) } }
    return { seen, deps: parts as unknown as Pick<Deps, 'hub' | 'platform' | 'records'>, row: { id: `run_${crypto.randomUUID().replaceAll('-', '')}` } as RunRow }
  }
  const numbered = (count: number) => Array.from({ length: count }, (_, i) => delta(`${i + 1},`))
  const upTo = (count: number) => Array.from({ length: count }, (_, i) => `${i + 1},`).join('')

  it('is read once, however many ask and however often', async () => {
    const { seen, deps, row } = logOf(numbered(100))
    const texts = await Promise.all(Array.from({ length: 8 }, () => textSoFar(deps, row, 100)))
    expect(new Set(texts.map(({ value }) => value))).toEqual(new Set([upTo(100)]))
    for (let i = 0; i < 20; i++) expect(await lengthSoFar(deps, row)).toBe(upTo(100).length)
    expect(seen.pages).toBe(10)
  })

  it('is read a piece at each look at its length, until all of it is known', async () => {
    const { seen, deps, row } = logOf(Array.from({ length: 100 }, () => delta('x'.repeat(100_000))))
    const looks = [await lengthSoFar(deps, row), await lengthSoFar(deps, row)]
    expect(seen.pages).toBeLessThan(8)
    expect(looks[0]).toBeLessThan(looks[1]!)
    for (let last = -1; looks.at(-1) !== last; looks.push(await lengthSoFar(deps, row))) last = looks.at(-1)!
    expect([looks.at(-1), seen.pages]).toEqual([10_000_000, 10])
  })

  it('has the text up to any event, in whatever order these are asked for', async () => {
    const one = fc.array(fc.integer({ min: 0, max: 60 }), { minLength: 1, maxLength: 8 })
    await fc.assert(
      fc.asyncProperty(one, fc.boolean(), async (ends, atOnce) => {
        const { deps, row } = logOf(numbered(60))
        const ask = async (end: number) => (await textSoFar(deps, row, end)).value
        const said: string[] = []
        if (atOnce) said.push(...(await Promise.all(ends.map(ask))))
        else for (const end of ends) said.push(await ask(end))
        expect(said).toEqual(ends.map(upTo))
      }),
      { numRuns: 25 },
    )
  })
})

describe('names', () => {
  it('lead back to the run that they are made of', () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom(...'0123456789abcdef'.split('')), minLength: 32, maxLength: 32 }), (digits) => {
        const run = `run_${digits}`
        expect(streamId(run)).toMatch(/^stream_[0-9a-f]{16}$/)
        expect(run.endsWith(endOf(streamId(run))!)).toBe(true)
        expect(`run_${uuidOfRun(run).replaceAll('-', '')}`).toBe(run)
      }),
    )
  })

  it('that nobody was given lead nowhere', () => {
    fc.assert(
      fc.property(fc.string(), (name) => {
        expect(endOf(name)).toBeUndefined()
      }),
    )
  })
})
