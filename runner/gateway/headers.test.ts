import { describe, expect, it } from 'vitest'
import { customHeaders, requestHeaders, responseHeaders } from './headers.ts'

describe('the headers of a request', () => {
  const sent = requestHeaders(
    {
      host: '127.0.0.1:1', connection: 'keep-alive, x-one-hop', 'x-one-hop': '1', 'content-length': '3', 'transfer-encoding': 'chunked', cookie: 'a=b',
      'x-api-key': 'process-token', authorization: 'Bearer process-token', 'x-echo': 'it is process-token', 'accept-encoding': 'gzip, br', 'x-forwarded-for': '10.0.0.1',
      'anthropic-version': '2023-06-01', 'anthropic-beta': 'a,b', 'content-type': 'application/json', accept: 'application/json', 'x-stainless-os': 'Linux',
      'user-agent': 'claude-cli', 'x-app': 'cli', 'x-claude-code-session-id': 's',
    },
    { 'x-api-key': 'real', 'x-tenant': 't' },
    'process-token',
  )

  it('go on with the key of the provider in place of the token of the process', () => {
    expect(sent).toEqual({
      'anthropic-version': '2023-06-01', 'anthropic-beta': 'a,b', 'content-type': 'application/json', accept: 'application/json', 'x-stainless-os': 'Linux',
      'user-agent': 'claude-cli', 'x-app': 'cli', 'x-claude-code-session-id': 's', 'accept-encoding': 'identity', 'x-api-key': 'real', 'x-tenant': 't',
    })
  })
})

describe('the headers of an answer', () => {
  it('go on but for those of the connection, cookies and what quotes a key', () => {
    const given = { 'content-type': 'text/event-stream', 'request-id': 'r', 'retry-after': '5', connection: 'close', 'transfer-encoding': 'chunked', 'set-cookie': ['a=b'], 'x-echo': 'sk-real', 'content-length': '7' }
    expect(responseHeaders(given, ['sk-real'])).toEqual({ 'content-type': 'text/event-stream', 'request-id': 'r', 'retry-after': '5', 'content-length': '7' })
  })
})

describe('further headers of a provider', () => {
  it('are lines of name and value; none of them can be a key or a header of the connection', () => {
    expect(customHeaders('X-Org: acme\r\n\nx-empty:\nHost: evil\nAuthorization: Bearer x\nX-Api-Key: y\nbad name: z\nno colon\nx-bad: a\u0000b')).toEqual({
      'x-org': 'acme',
      'x-empty': '',
    })
  })
})
