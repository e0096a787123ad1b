import { mkdir, readFile, readlink, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { tempFolder } from '../test/model/claude.ts'
import { linkLogin, localLogin } from './login.ts'

let base: Awaited<ReturnType<typeof tempFolder>>
let home = ''
let configDir = ''
beforeEach(async () => {
  base = await tempFolder()
  home = join(base.path, 'home')
  configDir = join(base.path, 'config')
  await mkdir(home)
})
afterEach(() => base.remove())

async function logIn(folder = join(home, '.claude')): Promise<string> {
  await mkdir(folder, { recursive: true })
  // Nobody may read it, and nobody has to.
  await writeFile(join(folder, '.credentials.json'), 'dummy', { mode: 0o000 })
  return join(folder, '.credentials.json')
}

describe('localLogin', () => {
  it('is none on a bare machine, also with empty variables', async () => {
    expect(await localLogin({ env: {}, home })).toEqual({ kind: 'none' })
    expect(await localLogin({ env: { ANTHROPIC_API_KEY: '', ANTHROPIC_CUSTOM_HEADERS: 'A: b', PATH: '/bin' }, home })).toEqual({
      kind: 'none',
    })
  })

  it.each(['ANTHROPIC_API_KEY', 'ANTHROPIC_AUTH_TOKEN', 'CLAUDE_CODE_OAUTH_TOKEN'])(
    'takes %s before the login file',
    async (name) => {
      await logIn()
      expect(await localLogin({ env: { [name]: 'x', OTHER: 'y' }, home })).toEqual({ kind: 'env', env: { [name]: 'x' } })
    },
  )

  it('passes a base URL and further headers on with the key', async () => {
    const env = { ANTHROPIC_API_KEY: 'x', ANTHROPIC_BASE_URL: 'http://127.0.0.1:1', ANTHROPIC_CUSTOM_HEADERS: 'A: b' }
    expect(await localLogin({ env, home })).toEqual({ kind: 'env', env })
  })

  it('takes a base URL alone, with the login file if there is one', async () => {
    const env = { ANTHROPIC_BASE_URL: 'http://127.0.0.1:1' }
    expect(await localLogin({ env, home })).toEqual({ kind: 'env', env })
    const credentialsFile = await logIn()
    expect(await localLogin({ env, home })).toEqual({ kind: 'env', env, credentialsFile })
  })

  it('finds the login file in the home folder or where CLAUDE_CONFIG_DIR says', async () => {
    const usual = await logIn()
    expect(await localLogin({ env: {}, home })).toEqual({ kind: 'login', credentialsFile: usual })
    const moved = join(base.path, 'moved')
    expect(await localLogin({ env: { CLAUDE_CONFIG_DIR: moved }, home })).toEqual({ kind: 'none' })
    const credentialsFile = await logIn(moved)
    expect(await localLogin({ env: { CLAUDE_CONFIG_DIR: moved }, home })).toEqual({ kind: 'login', credentialsFile })
  })
})

describe('linkLogin', () => {
  const linkPath = (): string => join(configDir, '.credentials.json')
  beforeEach(() => mkdir(configDir))

  it('links once and again', async () => {
    const file = await logIn()
    expect(await linkLogin(file, configDir)).toBe('linked')
    expect(await linkLogin(file, configDir)).toBe('linked')
    expect(await readlink(linkPath())).toBe(file)
  })

  it('replaces a stale link and leaves alone what it pointed to', async () => {
    const victim = join(base.path, 'victim')
    await writeFile(victim, 'kept')
    await symlink(victim, linkPath())
    const file = await logIn()
    expect(await linkLogin(file, configDir)).toBe('linked')
    expect([await readlink(linkPath()), await readFile(victim, 'utf8')]).toEqual([file, 'kept'])
  })

  it('keeps a real file or a folder', async () => {
    const file = await logIn()
    await writeFile(linkPath(), 'renewed')
    expect(await linkLogin(file, configDir)).toBe('kept')
    expect(await readFile(linkPath(), 'utf8')).toBe('renewed')
    const other = join(base.path, 'other')
    await mkdir(join(other, '.credentials.json'), { recursive: true })
    expect(await linkLogin(file, other)).toBe('kept')
  })

  it('ends with the link when many do it at once', async () => {
    const file = await logIn()
    expect(new Set(await Promise.all(Array.from({ length: 20 }, () => linkLogin(file, configDir))))).toEqual(new Set(['linked']))
    expect(await readlink(linkPath())).toBe(file)
  })
})
