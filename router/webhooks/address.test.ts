import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { isPublicAddress } from '../guard/addresses.ts'
import { addressProblem } from './address.ts'

const PRIVATE = [
  'localhost', 'LOCALHOST.', 'api.localhost', 'printer.local', 'metadata.google.internal', 'router.home.arpa',
  // Loopback in every way that a URL may write it: dotted, short, decimal, octal, hexadecimal, mixed.
  '127.0.0.1', '127.1', '127.255.255.254', '2130706433', '017700000001', '0177.0.0.1', '0x7f000001', '0x7f.0.0.1', '0x7f.1', '%31%32%37.0.0.1', '１２７.0.0.1',
  '0.0.0.0', '0', '10.1.2.3', '172.16.0.1', '172.31.255.255', '192.168.1.1', '169.254.169.254', '100.64.0.1', '100.100.100.200',
  '192.0.0.192', '198.18.0.1', '192.0.2.1', '203.0.113.1', '224.0.0.1', '239.1.1.1', '240.0.0.1', '255.255.255.255',
  '[::1]', '[::]', '[0:0:0:0:0:0:0:1]', '[::ffff:127.0.0.1]', '[::ffff:7f00:1]', '[::ffff:a9fe:a9fe]', '[::127.0.0.1]', '[fe80::1]', '[fec0::1]', '[fc00::1]', '[fd00:ec2::254]',
  '[ff02::1]', '[64:ff9b::7f00:1]', '[64:ff9b:1::1]', '[2002:7f00:1::]', '[2001::1]', '[2001:db8::1]', '[100::1]',
]

describe('the address of a webhook', () => {
  it('is of the public internet, with any port, path and query', () => {
    for (const url of ['https://example.com', 'http://hooks.example.com:8080/a/b?token=x', 'https://8.8.8.8/', 'https://[2606:4700::1]:8443/']) {
      expect(addressProblem(url, false), url).toBeUndefined()
    }
  })

  it.each(PRIVATE)('is refused where it is %s, unless an operator allows private ones', (host) => {
    for (const url of [`http://${host}/`, `https://${host}:8443/hook`]) {
      expect(addressProblem(url, false), url).toBe('is not an address of the public internet')
      expect(addressProblem(url, true), url).toBeUndefined()
    }
  })

  it('is refused with credentials or another scheme, without being quoted', () => {
    for (const url of ['https://me:hunter2@example.com/', 'https://hunter2@example.com/', 'ftp://hunter2.example.com', 'javascript:hunter2', 'file:///hunter2', 'hunter2', '', 'http://', 'gopher://127.0.0.1/']) {
      const problem = addressProblem(url, true)
      expect(problem, url).toBeDefined()
      expect(problem, url).not.toContain('hunter2')
    }
  })

  it('of any private block is refused in whatever base its number is written', () => {
    const blocks = fc.constantFrom([0x7f000000, 8], [0x0a000000, 8], [0xac100000, 12], [0xc0a80000, 16], [0xa9fe0000, 16], [0, 8])
    const inside = fc.tuple(blocks, fc.nat(0xffffffff)).map(([[base, bits], n]) => base + (n % 2 ** (32 - bits)))
    fc.assert(
      fc.property(inside, fc.constantFrom(8, 10, 16), (n, radix) => {
        const number = { 8: `0${n.toString(8)}`, 10: String(n), 16: `0x${n.toString(16)}` }[radix] ?? ''
        const dotted = [24, 16, 8, 0].map((shift) => (n >>> shift) & 255).join('.')
        for (const host of [number, dotted, `[::ffff:${dotted}]`]) expect(addressProblem(`http://${host}/`, false), host).toBeDefined()
      }),
    )
  })

  it('is judged the same as a name and as what the name resolves to', () => {
    for (const literal of PRIVATE.slice(17)) {
      const address = new URL(`http://${literal}/`).hostname.replace(/^\[|\]$/g, '')
      expect(isPublicAddress(address), address).toBe(false)
    }
    for (const notAnAddress of ['', 'localhost', 'example.com', '1.2.3.4.5']) expect(isPublicAddress(notAnAddress), notAnAddress).toBe(false)
  })
})
