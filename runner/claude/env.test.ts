import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { claudeEnv, redact, secretsIn } from './env.ts'

const PASSED = ['PATH', 'HOME', 'LANG', 'LC_ALL', 'TZ', 'TMPDIR', 'SHELL', 'NODE_EXTRA_CA_CERTS', 'HTTPS_PROXY', 'NO_PROXY']
const NEVER = [
  'ANTHROPIC_LOG',
  'DEBUG',
  'IS_SANDBOX',
  'CLAUDE_CODE_BUBBLEWRAP',
  'CLAUDE_CODE_RETRY_WATCHDOG',
  'NODE_OPTIONS',
  'RUNYARD_TOKEN',
  'RUNYARD_URL',
]
const OTHER = [
  'AWS_SECRET_ACCESS_KEY',
  'GOOGLE_APPLICATION_CREDENTIALS',
  'ANTHROPIC_API_KEY',
  'CLAUDE_CONFIG_DIR',
  'GITHUB_TOKEN',
  'LD_PRELOAD',
  '__proto__',
  'constructor',
]
const OURS = {
  CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: '1',
  DISABLE_AUTOUPDATER: '1',
  CLAUDE_CODE_MAX_RETRIES: '2',
  CLAUDE_CODE_DISABLE_BACKGROUND_TASKS: '1',
  CLAUDE_CODE_DISABLE_NONSTREAMING_FALLBACK: '1',
  CLAUDE_CONFIG_DIR: '/cfg',
  RUNYARD_PROCESS: 'marker',
}
const place = { configDir: '/cfg', marker: 'marker' }
const names = fc.oneof(fc.constantFrom(...PASSED, ...NEVER, ...OTHER, ...Object.keys(OURS)), fc.string())
const envs = fc.dictionary(names, fc.string())

describe('the environment of the CLI', () => {
  it('has nothing that is not on a list', () => {
    fc.assert(
      fc.property(envs, fc.option(envs, { nil: undefined }), fc.array(names), (runner, provider, allow) => {
        const env = claudeEnv({ runner, allow, ...place, ...(provider ? { provider } : {}) })
        const ours = [...Object.keys(OURS), 'CLAUDE_CODE_PROVIDER_MANAGED_BY_HOST']
        const listed = [...PASSED, ...allow, ...Object.keys(provider ?? {}), ...ours]
        expect(Object.keys(env).filter((name) => !listed.includes(name))).toEqual([])
        expect(NEVER.filter((name) => Object.hasOwn(env, name))).toEqual([])
        expect(env).toMatchObject(OURS)
      }),
    )
  })

  it('is empty but for ours when the runner has none of the names', () => {
    const runner = { GITHUB_TOKEN: 'x', AWS_PROFILE: 'y' }
    expect(claudeEnv({ runner, ...place })).toEqual({ PATH: '/usr/local/bin:/usr/bin:/bin', ...OURS })
  })

  it('passes the provider unchanged, and then the settings files cannot redirect it', () => {
    const provider = { ANTHROPIC_BASE_URL: 'http://127.0.0.1:1', ANTHROPIC_AUTH_TOKEN: 'token' }
    const env = claudeEnv({ runner: { ANTHROPIC_API_KEY: 'the runner’s own' }, provider, ...place })
    expect(env).toMatchObject({ ...provider, CLAUDE_CODE_PROVIDER_MANAGED_BY_HOST: '1' })
    expect(env).not.toHaveProperty('ANTHROPIC_API_KEY')
  })

  it('lets the owner add names, but not those that lift a guard', () => {
    const runner = { GIT_AUTHOR_NAME: 'me', IS_SANDBOX: '1', CLAUDE_CODE_MAX_RETRIES: '15' }
    const env = claudeEnv({ runner, allow: Object.keys(runner), ...place })
    expect(env).toMatchObject({ GIT_AUTHOR_NAME: 'me', CLAUDE_CODE_MAX_RETRIES: '2' })
    expect(env).not.toHaveProperty('IS_SANDBOX')
  })
})

describe('the environment of a CLI behind the gateway', () => {
  const seat = { ANTHROPIC_BASE_URL: 'http://127.0.0.1:1', ANTHROPIC_API_KEY: 'token-of-the-process' }
  const behind = (runner: Record<string, string>, allow: string[] = []) => claudeEnv({ runner, allow, provider: seat, gateway: true, retries: 1, ...place })

  it('has no other way to a model, not even by the list of the owner', () => {
    const routes = ['ANTHROPIC_API_KEY', 'ANTHROPIC_AUTH_TOKEN', 'ANTHROPIC_CUSTOM_HEADERS', 'CLAUDE_CODE_OAUTH_TOKEN', 'CLAUDE_CODE_USE_BEDROCK', 'ANTHROPIC_BEDROCK_BASE_URL']
    const env = behind(Object.fromEntries([...routes, 'EDITOR'].map((name) => [name, 'of the owner'])), [...routes, 'EDITOR'])
    expect(Object.entries(env).filter(([, value]) => value === 'of the owner')).toEqual([['EDITOR', 'of the owner']])
    expect(env).toMatchObject({ ...seat, CLAUDE_CODE_PROVIDER_MANAGED_BY_HOST: '1', CLAUDE_CODE_MAX_RETRIES: '1' })
  })

  it('keeps the way to the gateway off the proxy', () => {
    expect(behind({})['NO_PROXY']).toBe('127.0.0.1')
    expect(behind({ NO_PROXY: '.internal' })['NO_PROXY']).toBe('.internal,127.0.0.1')
    expect(behind({ NO_PROXY: '*' })['NO_PROXY']).toBe('*')
    expect(behind({ no_proxy: 'a' }, ['no_proxy'])).toMatchObject({ no_proxy: 'a,127.0.0.1', NO_PROXY: '127.0.0.1' })
    expect(claudeEnv({ runner: {}, provider: seat, ...place })).not.toHaveProperty('NO_PROXY')
  })
})

describe('secrets', () => {
  it('are the long values under names that say so', () => {
    const headers = 'X-A: value-of-a\nX-B: value-of-b'
    const plain = { HOME: '/home/somebody', MY_TOKEN: 'short' }
    const env = { ...plain, ANTHROPIC_API_KEY: 'sk-0123456789', ANTHROPIC_CUSTOM_HEADERS: headers }
    expect(secretsIn(env).toSorted()).toEqual([headers, 'sk-0123456789', 'value-of-a', 'value-of-b'])
  })

  it('are replaced wherever they stand, longest first', () => {
    const secrets = secretsIn({ A_KEY: 'sk-0123456789', B_KEY: 'sk-0123456789-long' })
    expect(redact('key sk-0123456789-long and sk-0123456789', secrets)).toBe('key [redacted] and [redacted]')
  })
})
