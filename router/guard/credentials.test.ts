import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Fault } from '../../shared/faults.ts'
import { readPresented, refuseTokenInQuery } from './credentials.ts'

const JWT = 'eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl'
const basic = (pair: string) => `Basic ${btoa(pair)}`

function refusal(work: () => unknown): string {
  try {
    work()
  } catch (error) {
    if (error instanceof Fault) return `${error.code}: ${error.message}`
    throw error
  }
  return 'accepted'
}

describe('the token of a request', () => {
  it.each([
    [{ authorization: `Bearer ${JWT}` }],
    [{ authorization: `bearer  ${JWT}` }],
    [{ authorization: basic(`anyone:${JWT}`) }],
    [{ authorization: basic(`:${JWT}`) }],
    [{ 'x-api-key': JWT }],
    [{ 'x-api-key': JWT, authorization: `Bearer ${JWT}` }],
  ])('is found in %j', (headers) => {
    expect(readPresented(new Headers(headers))).toEqual({ kind: 'token', token: JWT })
  })

  it.each<[Record<string, string>, RegExp]>([
    [{}, /there is no token/],
    [{ authorization: '' }, /neither Bearer nor Basic/],
    [{ authorization: 'Bearer' }, /does not hold a token/],
    [{ authorization: 'Bearer ' }, /does not hold a token/],
    [{ authorization: JWT }, /neither Bearer nor Basic/],
    [{ authorization: `Token ${JWT}` }, /neither Bearer nor Basic/],
    [{ authorization: `Bearer ${JWT} ${JWT}` }, /does not hold a token/],
    [{ authorization: `Bearer ${JWT}, Bearer ${JWT}` }, /does not hold a token/],
    [{ authorization: `Bearer "${JWT}"` }, /does not hold a token/],
    [{ authorization: 'Basic %%%' }, /not valid Basic/],
    [{ authorization: `Basic ${btoa(JWT)}` }, /not valid Basic/],
    [{ authorization: basic('user:') }, /does not hold a token/],
    [{ 'x-api-key': '' }, /does not hold a token/],
    [{ 'x-api-key': `${JWT}x`, authorization: `Bearer ${JWT}` }, /different tokens/],
    [{ 'x-api-key': JWT, authorization: 'Digest abc' }, /neither Bearer nor Basic/],
  ])('is refused in %j', (headers, message) => {
    expect(refusal(() => readPresented(new Headers(headers)))).toMatch(message)
  })

  it('may be 8 KiB long and not a byte more', () => {
    const longest = 'a'.repeat(8_192)
    expect(readPresented(new Headers({ authorization: `Bearer ${longest}` }))).toEqual({ kind: 'token', token: longest })
    expect(readPresented(new Headers({ authorization: basic(`u:${longest}`) }))).toEqual({ kind: 'pair', user: 'u', password: longest })
    const tooLong: Record<string, string>[] = [
      { authorization: `Bearer ${longest}a` },
      { 'x-api-key': `${longest}a` },
      { authorization: `Bearer ${'a'.repeat(1_000_000)}` },
    ]
    for (const headers of tooLong) {
      expect(refusal(() => readPresented(new Headers(headers)))).toMatch(/longer than 8192 bytes/)
    }
  })

  it('is the user and the password of Basic where the password is no token by its look', () => {
    const given = (pair: string) => readPresented(new Headers({ authorization: `Basic ${Buffer.from(pair).toString('base64')}` }))
    expect(given('ann:pa:ss wörd')).toEqual({ kind: 'pair', user: 'ann', password: 'pa:ss wörd' })
    expect(given(':ccs_ak_0123456789')).toEqual({ kind: 'token', token: 'ccs_ak_0123456789' })
    expect(refusal(() => given('ann:pass\nword'))).toMatch(/does not hold a token/)
    expect(refusal(() => readPresented(new Headers({ authorization: `Basic ${btoa('ann:\xff\xfe')}` })))).toMatch(/not valid Basic/)
  })

  it('is what was sent, for any user and password that Basic can carry', () => {
    const user = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 40 }).filter((text) => !text.includes(':') && !/\p{Cc}/u.test(text))
    const password = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 40 }).filter((text) => !/\p{Cc}/u.test(text))
    const kept = fc.property(user, password, (name, secret) => {
      const authorization = `Basic ${Buffer.from(`${name}:${secret}`).toString('base64')}`
      expect(readPresented(new Headers({ authorization }))).toEqual({ kind: 'pair', user: name, password: secret })
    })
    expect(() => fc.assert(kept)).not.toThrow()
  })

  it('is never quoted in a refusal', () => {
    const secrets = fc.stringMatching(/^[A-Za-z0-9]{12,60}$/)
    const schemes = fc.constantFrom('', 'Bearer ', 'Token ', 'Bearer x ', 'Basic ')
    const kept = fc.property(secrets, schemes, (secret, scheme) => {
      const headers = { authorization: `${scheme}${secret}`, 'x-api-key': `${secret}z` }
      return !refusal(() => readPresented(new Headers(headers))).includes(secret)
    })
    expect(() => fc.assert(kept)).not.toThrow()
  })
})

describe('a token in a query', () => {
  it.each([
    'token=abc',
    'TOKEN=abc',
    'access_token=abc',
    'Access-Token=abc',
    'api_key=abc',
    'apikey=abc',
    'key=abc',
    'jwt=abc',
    'auth=abc',
    'authorization=abc',
    'x-api-key=abc',
    'X_API_KEY=abc',
    'token',
    'token=',
    'token[]=abc',
    'auth[token]=abc',
    '%74oken=abc',
    'after=1&token=abc',
    `q=${JWT}`,
    `q=Bearer%20${JWT}`,
    `q=${JWT.replaceAll('.', '%2E')}`,
    `${JWT}=1`,
    JWT,
    `q=ret_${'a'.repeat(43)}`,
  ])('%s is refused', (query) => {
    const refused = refusal(() => refuseTokenInQuery(`http://localhost/healthz?${query}`))
    expect(refused).toMatch(/^token_in_query/)
    expect(refused).not.toContain(JWT)
  })

  it.each([
    '',
    'after=12',
    'status=running&limit=10',
    'q=1.2.3',
    'q=www.example.com',
    'q=eyeglasses.shop.com',
    'monkey=1',
    'tokens=1',
    'q=token',
    '#token=abc',
  ])('%j is none', (query) => {
    expect(refusal(() => refuseTokenInQuery(`http://localhost/v1/runs?${query}`))).toBe('accepted')
  })

  it('is not looked for outside the query', () => {
    expect(refusal(() => refuseTokenInQuery('http://localhost/v1/token=abc'))).toBe('accepted')
  })

  it('any query is read without an error of ours', () => {
    const queries = fc.oneof(fc.string(), fc.webQueryParameters())
    const read = fc.property(queries, (query) => void refusal(() => refuseTokenInQuery(`http://localhost/?${query}`)))
    expect(() => fc.assert(read)).not.toThrow()
  })
})
