import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { STDERR_CAP } from '../../shared/limits.ts'
import { StderrMark } from '../../shared/marks.ts'
import { StderrHead } from './stderr.ts'

const SECRET = 'sk-secret-0123456789'

function markOf(text: string, cutAt = 0): StderrMark {
  const head = new StderrHead({ ANTHROPIC_API_KEY: SECRET })
  const bytes = Buffer.from(text)
  head.push(bytes.subarray(0, cutAt))
  head.push(bytes.subarray(cutAt))
  return StderrMark.parse(head.mark())
}

describe('stderr', () => {
  it('is kept whole up to the cap and cut one byte past it', () => {
    expect(markOf('x'.repeat(STDERR_CAP))).toEqual({ kind: 'stderr', text: 'x'.repeat(STDERR_CAP), truncated: false })
    expect(markOf('x'.repeat(STDERR_CAP + 1))).toEqual({ kind: 'stderr', text: 'x'.repeat(STDERR_CAP), truncated: true })
  })

  it('never shows a secret or its beginning, wherever it stands', () => {
    const filler = fc.nat(60).map((length) => 'é'.repeat(length))
    const near = fc.integer({ min: STDERR_CAP - 80, max: STDERR_CAP + 80 })
    fc.assert(
      fc.property(near, filler, fc.boolean(), (at, more, early) => {
        const text = `${early ? SECRET.repeat(3) : ''}${'x'.repeat(at)}${SECRET}${more}${'y'.repeat(400)}`
        const mark = markOf(text, at + 5)
        expect(mark.text).not.toContain('sk-s')
        expect(Buffer.byteLength(mark.text)).toBeLessThanOrEqual(STDERR_CAP)
        expect(mark.truncated).toBe(true)
      }),
    )
  })

  it('does not end in half a character', () => {
    expect(markOf(`${'x'.repeat(STDERR_CAP - 1)}日本`).text.endsWith('x')).toBe(true)
  })
})
