import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { isPublicAddress, urlProblem } from './addresses.ts'

describe('a public address', () => {
  it.each(['1.1.1.1', '8.8.8.8', '172.15.255.255', '172.32.0.1', '2606:4700:4700::1111', '::ffff:1.1.1.1'])('is %s', (address) => {
    expect(isPublicAddress(address)).toBe(true)
  })

  it.each([
    '127.0.0.1', '127.255.255.254', '0.0.0.0', '0.1.2.3', '10.0.0.1', '172.16.0.1', '172.31.255.255', '192.168.1.1', '169.254.169.254',
    '100.64.0.1', '100.100.100.200', '192.0.0.1', '198.18.0.1', '224.0.0.1', '240.0.0.1', '255.255.255.255', '::', '::1', 'fe80::1',
    'fe80::1%eth0', 'fc00::1', 'fd00:ec2::254', 'ff02::1', '::ffff:127.0.0.1', '::ffff:169.254.169.254', '::ffff:a00:1',
    '64:ff9b::10.0.0.1', '::7f00:1', '::127.0.0.1', '2002:7f00:1::', '2001:db8::1', '', 'localhost', '1.1.1', '999.1.1.1',
  ])('is not %j', (address) => {
    expect(isPublicAddress(address)).toBe(false)
  })

  it('inside an IPv6 one is what it is outside of it', () => {
    fc.assert(
      fc.property(fc.ipV4(), (address) => {
        expect(isPublicAddress(`::ffff:${address}`)).toBe(isPublicAddress(address))
      }),
    )
  })
})

describe('the base URL of a provider', () => {
  const problem = (url: string, mayBePrivate = false) => urlProblem(new URL(url), mayBePrivate)

  it('is https to a name or a public address', () => {
    for (const url of ['https://api.example.com', 'https://api.example.com:8443/anthropic', 'https://1.1.1.1', 'https://[2606:4700:4700::1111]/'])
      expect(problem(url)).toBeUndefined()
  })

  it.each([
    ['http://api.example.com', 'plain http'],
    ['https://127.0.0.1', 'public'],
    // Other ways to write an address, which the URL parser reads as one.
    ['https://2130706433', 'public'],
    ['https://0x7f.1', 'public'],
    ['https://0', 'public'],
    ['https://[::1]', 'public'],
    ['https://[::ffff:10.0.0.1]', 'public'],
    ['https://169.254.169.254/latest/meta-data', 'public'],
    ['https://localhost', 'this machine'],
    ['https://api.localhost.', 'this machine'],
  ])('%s is for machines whose owner allows private ones', (url, why) => {
    expect(problem(url)).toContain(why)
    expect(problem(url, true)).toBeUndefined()
  })

  it.each(['ftp://api.example.com', 'https://user@api.example.com', 'https://api.example.com/?key=1', 'https://api.example.com/#x'])('%s is one on no machine', (url) => {
    expect(problem(url, true)).toBeDefined()
  })
})
