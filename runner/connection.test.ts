import { describe, expect, it } from 'vitest'
import { needsNoMask } from './connection.ts'

describe('a mask', () => {
  it.each(['http://127.0.0.1:8080', 'http://localhost:8080', 'http://[::1]:8080', 'https://localhost'])('is none on the way to %s', (url) => {
    expect(needsNoMask(url)).toBe(true)
  })

  it.each(['https://runs.example.com', 'http://10.0.0.1:8080', 'https://localhost.example.com', 'http://127.0.0.1.example.com'])('is one on the way to %s', (url) => {
    expect(needsNoMask(url)).toBe(false)
  })
})
