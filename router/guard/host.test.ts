import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { hostName, isLoopback, isSameOrigin, listedName, parseOrigin } from './host.ts'

describe('the name in a Host header', () => {
  it.each([
    ['localhost', 'localhost'],
    ['LOCALHOST:8787', 'localhost'],
    ['localhost.', 'localhost'],
    ['127.0.0.1:1', '127.0.0.1'],
    ['[::1]:8787', '[::1]'],
    ['[0:0:0:0:0:0:0:1]', '[::1]'],
    ['Runs.Example.com:443', 'runs.example.com'],
    ['xn--bcher-kva.example', 'xn--bcher-kva.example'],
    ['a_b.example', 'a_b.example'],
  ])('%s is %s', (host, name) => {
    expect(hostName(host)).toBe(name)
  })

  it.each([
    '',
    ' ',
    '.',
    ':8787',
    'localhost:',
    'localhost:8787@evil.com',
    'user@localhost',
    'localhost@evil.com',
    'localhost:99999999',
    'localhost:80:80',
    'localhost/evil',
    'localhost?evil',
    'localhost#evil',
    'localhost\\evil',
    'localhost evil.com',
    'localhost, evil.com',
    'localhost\tevil',
    'local%68ost',
    'localhost..',
    '..localhost',
    '::1',
    '[::1',
    '[::1]evil.com',
    '[::1%25eth0]',
    '[::1.]',
    '[localhost]',
    'bücher.example',
    'ⓛocalhost',
    'localhost\u0000.evil.com',
  ])('%j is none', (host) => {
    expect(hostName(host)).toBeUndefined()
  })

  it('never holds anything but a name or an address, whatever was sent', () => {
    const hosts = fc.oneof(fc.string(), fc.webAuthority(), fc.stringMatching(/^[ab.:@[\]/1\\?#%]*$/))
    const plain = fc.property(hosts, (host) => /^([a-z0-9._-]+|\[[0-9a-f:.]+\])$/.test(hostName(host) ?? 'none'))
    expect(() => fc.assert(plain)).not.toThrow()
  })

  it('is the same one that a URL parser finds', () => {
    const same = fc.property(fc.domain(), fc.option(fc.nat(65_535)), (domain, port) => {
      const host = port === null ? domain : `${domain}:${port}`
      return hostName(host) === new URL(`http://${host}/`).hostname
    })
    expect(() => fc.assert(same)).not.toThrow()
  })
})

describe('loopback', () => {
  it.each(['localhost', '127.0.0.1', '127.255.255.254', '127.1.2.3', '[::1]'])('includes %s', (name) => {
    expect(isLoopback(name)).toBe(true)
  })
  it.each([
    '127.0.0.1.evil.com',
    'localhost.evil.com',
    'evil.localhost',
    'notlocalhost',
    '0.0.0.0',
    '127.1',
    '127.0.0.256',
    '0127.0.0.1',
    '127.0.0.01',
    '2130706433',
    '0x7f000001',
    '10.0.0.1',
    '[::]',
    '[::ffff:7f00:1]',
    '[fe80::1]',
  ])('does not include %s', (name) => {
    expect(isLoopback(name)).toBe(false)
  })
})

describe('an Origin header', () => {
  it.each([
    'null',
    '',
    'localhost',
    'file://',
    'http://',
    'http://a/path',
    'http://a/',
    'http://u@a',
    'http://a?q',
    'http://a b',
    'https://a, https://b',
    'chrome-extension://abcdef',
    'http://a:80',
  ])('%j is not one that a page was served from', (origin) => {
    expect(parseOrigin(origin)).toBeUndefined()
  })

  it.each([
    ['http://localhost:8787', 'localhost:8787', true],
    ['https://runs.example.com', 'runs.example.com', true],
    ['https://runs.example.com', 'runs.example.com:443', true],
    ['http://runs.example.com', 'Runs.Example.com:80', true],
    ['http://[::1]:8787', '[::1]:8787', true],
    ['http://localhost:3000', 'localhost:8787', false],
    ['http://localhost', 'localhost:8787', false],
    ['http://127.0.0.1:8787', 'localhost:8787', false],
    ['http://localhost.evil.com:8787', 'localhost:8787', false],
  ])('%s on host %s is same-origin: %s', (origin, host, same) => {
    const url = parseOrigin(origin)
    expect(url && isSameOrigin(url, host)).toBe(same)
  })
})

it('a listed address may be written with or without brackets', () => {
  expect(listedName('2001:DB8::1')).toBe('[2001:db8::1]')
  expect(listedName('[2001:db8:0::1]')).toBe('[2001:db8::1]')
  expect(listedName('Runs.Example.com')).toBe('runs.example.com')
  expect(listedName('10.0.0.7:8787')).toBe('10.0.0.7')
})
