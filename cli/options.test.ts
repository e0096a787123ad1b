import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { duration, size } from './options.ts'

describe('a size', () => {
  it('is read in bytes, decimal and binary units', () => {
    expect(['0', '512', '512B', '1kB', '500MB', '10GiB', '10gib', '2TB', '1KiB'].map(size)).toEqual([
      0,
      512,
      512,
      1e3,
      5e8,
      10 * 1_024 ** 3,
      10 * 1_024 ** 3,
      2e12,
      1_024,
    ])
  })

  it('is refused in any other form', () => {
    for (const text of ['', 'x', '1.5GB', '-1', '10 GB', '10iB', '5G', 'MB', '1e9', '10PB'])
      expect(() => size(text), text).toThrow(/must look like/)
  })

  it('is never anything but a whole number of bytes', () => {
    const outcome = (text: string) => {
      try {
        return size(text)
      } catch {
        return 0
      }
    }
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.stringMatching(/^\d{1,20}[kmgtKMGT]?i?[bB]?$/)), (text) => {
        expect(Number.isInteger(outcome(text))).toBe(true)
      }),
    )
  })
})

describe('a duration', () => {
  it('is read in seconds', () => {
    expect(['90', '90s', '15m', '12h', '30d'].map(duration)).toEqual([90, 90, 900, 43_200, 2_592_000])
    expect(() => duration('1w')).toThrow(/must look like/)
  })
})
