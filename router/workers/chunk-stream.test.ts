import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { EventChunk } from '../ports.ts'
import { ChunkDecoder, pageStream } from './chunk-stream.ts'

const chunk = fc.record({
  kind: fc.constantFrom('ev' as const, 'mark' as const),
  first: fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
  count: fc.integer({ min: 1, max: 0xffff_ffff }),
  bytes: fc.uint8Array({ maxLength: 300 }),
})

const pagesToSend = fc.array(fc.array(chunk, { maxLength: 5 }), { maxLength: 5 })

async function* pagesOf(pages: readonly EventChunk[][]): AsyncGenerator<EventChunk[]> {
  for (const page of pages) yield await Promise.resolve(page)
}

const plain = ({ kind, first, count, bytes }: EventChunk) => ({ kind, first, count, bytes: [...bytes] })

describe('pages on their way from an object', () => {
  it('come out as they went in, however they were cut', async () => {
    await fc.assert(
      fc.asyncProperty(pagesToSend, fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1 }), async (pages, cuts) => {
        let ends = 0
        const all = Buffer.from(await new Response(pageStream(pagesOf(pages), () => ends++)).arrayBuffer())
        const decoder = new ChunkDecoder()
        const out: EventChunk[] = []
        for (let at = 0, i = 0; at < all.length; i++) {
          const end = at + cuts[i % cuts.length]!
          out.push(...decoder.push(all.subarray(at, end)))
          at = end
        }
        expect(out.map(plain)).toEqual(pages.flat().map(plain))
        expect(ends).toBe(1)
      }),
    )
  })

  it('say that they failed, and nothing of why, and end once', async () => {
    const ended: unknown[] = []
    const failing = (async function* () {
      yield [{ kind: 'ev', first: 1, count: 1, bytes: new Uint8Array([1]) } satisfies EventChunk]
      throw new Error('secret')
    })()
    const reader = pageStream(failing, (error) => ended.push(error)).getReader()
    expect((await reader.read()).done).toBe(false)
    await expect(reader.read()).rejects.toThrow('the events could not be read')
    expect(ended).toEqual([new Error('secret')])
  })
})
