import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { layOut, text } from './table.ts'

describe('a table', () => {
  it('has its columns one under the other', () => {
    expect(
      layOut([
        ['id', 'weight', 'url'],
        ['main', '3', 'https://x'],
        ['ünï', '10', '-'],
      ]),
    ).toEqual(['id    weight  url', 'main  3       https://x', 'ünï   10      -'])
  })

  it('shows nothing as a dash, and yes or no in words', () => {
    expect([null, undefined, '', true, false, 0].map(text)).toEqual(['-', '-', '-', 'yes', 'no', '0'])
  })

  it('lets no name of somebody else steer the terminal or begin a line', () => {
    expect(text('a\u001B[2Jb\r\nc\u202E')).toBe('a?[2Jb??c?')
    fc.assert(
      fc.property(fc.array(fc.nat(0x206f)), (codes) => {
        expect(text(String.fromCodePoint(...codes))).not.toMatch(/[\p{Cc}\u2028\u2029\u202A-\u202E\u2066-\u2069]/u)
      }),
    )
  })
})
