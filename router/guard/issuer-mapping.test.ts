import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { APP_SCOPES } from '../core/scopes.ts'
import { IssuerMapping, mapClaims } from './issuer-mapping.ts'
import { isIssuerUrl } from './issuer-url.ts'

const mapping = (wish: object) => IssuerMapping.parse({ require: [{ claim: 'repository', is: 'acme/app' }], ...wish })
const claims = (more: object = {}) => ({ sub: 'repo:acme/app:ref:refs/heads/main', repository: 'acme/app', ...more })

describe('a required claim', () => {
  it.each([['acme/app2'], ['acme/ap'], ['ACME/app'], [' acme/app'], [null], [undefined], [{ '0': 'acme/app' }], [['acme/app2']], [true]])(
    'that is %j is another one',
    (repository) => {
      expect(mapClaims(mapping({}), claims({ repository }))).toBeUndefined()
    },
  )

  it('is one of several, and of a list one member', () => {
    const either = mapping({ require: [{ claim: 'repository', is: ['acme/lib', 'acme/app'] }, { claim: ['realm', 'roles'], is: 'ci' }] })
    expect(mapClaims(either, claims({ realm: { roles: ['dev', 'ci'] } }))).toBeDefined()
    expect(mapClaims(either, claims({ realm: { roles: ['dev'] } }))).toBeUndefined()
    expect(mapClaims(either, claims({ realm: 'ci' }))).toBeUndefined()
    expect(mapClaims(mapping({ require: [{ claim: 'email_verified', is: true }] }), claims({ email_verified: 'true' }))).toBeUndefined()
  })

  it('is never what every object has', () => {
    for (const claim of ['__proto__', 'constructor', ['__proto__', 'x'], ['repository', 'length']]) {
      expect(mapClaims(mapping({ require: [{ claim, is: [8, ''] }] }), claims())).toBeUndefined()
    }
  })
})

describe('a subject', () => {
  it('is the claim that is named', () => {
    expect(mapClaims(mapping({ subject: 'repository' }), claims())?.subject).toBe('acme/app')
    expect(mapClaims(mapping({}), claims())?.subject).toBe(claims().sub)
    expect(mapClaims(mapping({}), claims({ sub: 'b\u00f6b \u{1f600}' }))?.subject).toBe('b\u00f6b \u{1f600}')
    for (const sub of ['', 7, undefined, 'x'.repeat(257), 'bob\ud800', '\udc00\ud800', 'bob\0']) expect(mapClaims(mapping({}), claims({ sub }))).toBeUndefined()
  })
})

describe('scopes', () => {
  it('are those of everybody and those of each value in the table', () => {
    const from = mapping({ scopes: ['runs:read'], scopes_from: { claim: 'roles', table: { dev: ['runs:write'], ops: ['config:write', 'runs:read'] } } })
    const scopesOf = (roles: unknown) => [...(mapClaims(from, claims({ roles }))?.scopes ?? [])]
    expect(scopesOf(['dev', 'ops'])).toEqual(['runs:read', 'runs:write', 'config:write'])
    expect(scopesOf('dev')).toEqual(['runs:read', 'runs:write'])
    for (const roles of [undefined, [], ['boss'], 'toString', ['__proto__', 'constructor'], { dev: true }]) expect(scopesOf(roles)).toEqual(['runs:read'])
  })

  it('never go beyond what was written down, whatever the claims say', () => {
    const from = mapping({ scopes_from: { claim: 'roles', table: { dev: ['runs:read'] } } })
    const kept = fc.property(fc.anything(), (roles) => [...(mapClaims(from, claims({ roles }))?.scopes ?? [])].every((scope) => scope === 'runs:read'))
    expect(() => fc.assert(kept)).not.toThrow()
    expect(APP_SCOPES).not.toContain('admin')
  })
})

describe('the URL of an issuer', () => {
  it.each(['https://token.actions.githubusercontent.com', 'https://id.example.com/realms/acme', 'https://id.example.com:8443/', 'http://localhost:8080', 'http://127.0.0.1:1/x', 'http://[::1]:1'])('may be %s', (url) => {
    expect(isIssuerUrl(url)).toBe(true)
  })

  it.each(['', 'id.example.com', 'http://id.example.com', 'http://10.0.0.1', 'http://0.0.0.0', 'http://127.0.0.1.example.com', 'https://a@b.example.com', 'https://b.example.com/?x', 'https://b.example.com/#x', 'ftp://b.example.com', 'data:text/plain,x'])('may not be %j', (url) => {
    expect(isIssuerUrl(url)).toBe(false)
  })
})
