import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { LogCap } from './log-cap.ts'

describe('the cap of a log', () => {
  it('keeps a beginning and what must be kept, and counts all the rest', () => {
    const line = fc.record({ bytes: fc.nat(100), must: fc.boolean() })
    fc.assert(
      fc.property(fc.nat(500), fc.array(line, { maxLength: 40 }), (max, lines) => {
        const cap = new LogCap(max)
        const kept = lines.map(({ bytes, must }) => cap.takes(bytes, must))
        const firstOut = kept.indexOf(false)
        kept.forEach((taken, i) => expect(taken).toBe(firstOut < 0 || i < firstOut || lines[i]!.must))
        expect(cap.dropped).toBe(lines.reduce((sum, { bytes }, i) => sum + (kept[i] ? 0 : bytes), 0))
        const before = lines.slice(0, firstOut < 0 ? undefined : firstOut)
        const size = before.reduce((sum, { bytes }) => sum + bytes, 0)
        // What must be kept may be beyond it.
        expect(before.some(({ must }) => must) || size <= max).toBe(true)
        expect(firstOut < 0 || size + lines[firstOut]!.bytes > max).toBe(true)
        cap.told()
        expect(cap.dropped).toBe(0)
      }),
    )
  })
})
