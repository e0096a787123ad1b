import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { BaseUrl, checkReach, isPrivate } from './base-url.ts'

describe('a base URL', () => {
  it('is http or https with a path at most', () => {
    for (const url of ['https://api.example.com', 'http://10.0.0.1:8080/anthropic', 'https://api.example.com:8443/v1/x']) {
      expect(BaseUrl.parse(url)).toBe(url)
    }
    expect(BaseUrl.parse('https://api.example.com/anthropic//')).toBe('https://api.example.com/anthropic')
  })

  it('is refused with credentials, a query, a fragment or another scheme, without being quoted', () => {
    for (const url of [
      'https://me:hunter2@api.example.com',
      'https://hunter2@api.example.com',
      'https://api.example.com?key=hunter2',
      'https://api.example.com/#hunter2',
      'https://api.example.com/?',
      'ftp://hunter2',
      'hunter2',
      'file:///hunter2',
      '',
    ]) {
      const { success, error } = BaseUrl.safeParse(url)
      expect(success, url).toBe(false)
      expect(error?.message, url).not.toContain('hunter2')
    }
  })

  it('names a private address in whatever way it is written', () => {
    for (const host of [
      '127.0.0.1',
      '127.1',
      '0x7f.1',
      '2130706433',
      '0177.0.0.1',
      '0.0.0.0',
      '10.1.2.3',
      '172.16.0.1',
      '192.168.1.1',
      '169.254.169.254',
      '100.64.0.1',
      '[::1]',
      '[::]',
      '[::ffff:127.0.0.1]',
      '[::ffff:a00:1]',
      '[fe80::1]',
      '[fd00::1]',
      'localhost',
      'LOCALHOST',
      'localhost.',
      'api.localhost',
      'metadata.google.internal',
      'printer.local',
    ]) {
      expect(isPrivate(BaseUrl.parse(`http://${host}:8080`)), host).toBe(true)
    }
    for (const host of ['api.anthropic.com', '8.8.8.8', '[2606:4700::1]', 'localhost.example.com', 'local.example.com']) {
      expect(isPrivate(BaseUrl.parse(`https://${host}`)), host).toBe(false)
    }
  })

  it('of every address in a private block is private, IPv4-mapped too', () => {
    const inside = fc
      .tuple(fc.constantFrom([10, 8], [127, 8], [192, 16]), fc.nat(255), fc.nat(255), fc.nat(255))
      .map(([[first], b, c, d]) => `${first}.${first === 192 ? 168 : b}.${c}.${d}`)
    fc.assert(
      fc.property(inside, (address) => {
        expect(isPrivate(`http://${address}`)).toBe(true)
        expect(isPrivate(new URL(`http://[::ffff:${address}]`).href)).toBe(true)
      }),
    )
  })
})

describe('whether a base URL can be reached', () => {
  const runner = (allow: boolean | undefined) => ({
    policy:
      allow === undefined
        ? undefined
        : {
            permission_modes: [],
            bypass: false,
            mcp_config: false,
            agents: true,
            system_prompts: true,
            allow_private_base_urls: allow,
            sandbox: 'none',
          },
  })

  it('is no question for a public one, but plain http asks as much of an owner as a private address', () => {
    expect(checkReach('https://api.example.com', [runner(false)])).toEqual([])
    expect(checkReach('http://api.example.com', [])).toEqual([expect.stringContaining('plain http')])
    expect(checkReach('http://api.example.com', [runner(true)])).toEqual([])
    expect(() => checkReach('http://api.example.com', [runner(false)])).toThrow(/plain http, over which the key can be read, and no connected/)
  })

  it('is for the owners of the runners to say where it is private', () => {
    const url = 'http://127.0.0.1:8080'
    expect(checkReach(url, [runner(true), runner(true)])).toEqual([])
    expect(checkReach(url, [])).toEqual([expect.stringContaining('none is connected')])
    expect(checkReach(url, [runner(true), runner(false)])).toEqual([expect.stringContaining('1 of 2 connected runners refuse')])
    for (const refusing of [[runner(false)], [runner(undefined)], [runner(false), runner(undefined)]]) {
      expect(() => checkReach(url, refusing)).toThrow(/no connected runner allows that/)
    }
  })
})
