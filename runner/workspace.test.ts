import { mkdir, mkdtemp, readdir, realpath, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Fault } from '../shared/faults.ts'
import { discard, isInside, resolveCwd } from './workspace.ts'

const sessionId = '0190a8c4-7c1e-7000-8000-000000000001'
let base = ''
let root = ''
let second = ''

beforeAll(async () => {
  base = await realpath(await mkdtemp(join(tmpdir(), 'runyard-')))
  root = join(base, 'root')
  second = join(base, 'second')
  await mkdir(join(root, 'app/src'), { recursive: true })
  await mkdir(join(base, 'root-evil'))
  await mkdir(join(base, 'outside/deep'), { recursive: true })
  await mkdir(join(second, 'lib'), { recursive: true })
  await mkdir(join(root, 'with space, ünïcode'))
  await writeFile(join(root, 'file.txt'), '')
  await symlink(join(root, 'app'), join(root, 'link-in'))
  await symlink(join(base, 'outside'), join(root, 'link-out'))
  await symlink(join(base, 'nowhere'), join(root, 'link-dangling'))
  await symlink('loop', join(root, 'loop'))
  await symlink(root, join(base, 'root-alias'))
})
afterAll(() => rm(base, { recursive: true, force: true }))

const at = (cwd: string): Promise<{ cwd: string; created: boolean }> => resolveCwd({ roots: [root, second], cwd, sessionId })
/** The message a caller would read, with the path it gave cut out. */
async function refusal(cwd: string): Promise<string> {
  const fault: unknown = await at(cwd).catch((error: unknown) => error)
  if (!(fault instanceof Fault) || fault.code !== 'cwd') throw new Error(`not refused: ${JSON.stringify(fault)}`)
  return fault.message.replace(JSON.stringify(cwd), '<path>')
}

describe('a given working directory', () => {
  it.each([
    ['app', 'app'],
    ['./app/../app/src/', 'app/src'],
    ['.', ''],
    ['link-in/src', 'app/src'],
    ['with space, ünïcode', 'with space, ünïcode'],
  ])('takes %j relative to the first root', async (cwd, path) => {
    expect(await at(cwd)).toEqual({ cwd: join(root, path), created: false })
  })

  it('takes an absolute path inside any root, also by another name of the root', async () => {
    expect((await at(join(second, 'lib'))).cwd).toBe(join(second, 'lib'))
    expect((await at(join(base, 'root-alias/app'))).cwd).toBe(join(root, 'app'))
    expect((await resolveCwd({ roots: [join(base, 'root-alias')], cwd: 'app', sessionId })).cwd).toBe(join(root, 'app'))
  })

  it.each([
    '..',
    '../outside',
    'app/../../outside',
    '/',
    '/etc',
    '/root',
    'link-out',
    'link-out/deep',
    'link-dangling',
    'loop',
    'link-in/../../outside',
    'file.txt',
    'file.txt/..',
    'missing',
    '~',
    '$HOME',
    '',
    '\u0000',
    'app\u0000',
    'app\n',
    'app\u001b[31m',
    `/proc/self/cwd`,
    '/dev/fd',
  ])('refuses %j', async (cwd) => {
    expect(await refusal(cwd)).toBe('<path> is not a folder inside the workspace')
  })

  it('refuses a neighbour whose name begins like the root', async () => {
    expect(await refusal(join(base, 'root-evil'))).toBe('<path> is not a folder inside the workspace')
    expect(isInside('/root', '/root-evil')).toBe(false)
    expect(isInside('/', '/any')).toBe(true)
  })

  it('refuses a path or a name that is too long', async () => {
    await expect(at('a/'.repeat(2_049))).rejects.toThrow('is not a folder inside the workspace')
    await expect(at('a'.repeat(256))).rejects.toThrow('is not a folder inside the workspace')
    await expect(at(`${'./'.repeat(1_000)}app`)).resolves.toMatchObject({ cwd: join(root, 'app') })
  })

  it('answers alike for what exists outside and what does not', async () => {
    const answers = [
      join(base, 'outside'),
      join(base, 'nowhere'),
      join(root, 'link-out'),
      join(root, 'link-dangling'),
      '/etc/passwd',
    ]
    expect(new Set(await Promise.all(answers.map(refusal))).size).toBe(1)
  })

  it('gives for any string a folder inside a root or a refusal', async () => {
    const parts = fc.constantFrom(
      '..',
      '.',
      '',
      'app',
      'src',
      'link-out',
      'link-in',
      'deep',
      'loop',
      'root',
      'root-evil',
      'outside',
      '~',
      '\u0000',
      'ü',
    )
    const path = fc
      .tuple(fc.constantFrom('', '/', root, `${base}/`, '//'), fc.array(parts, { maxLength: 6 }))
      .map(([head, rest]) => head + rest.join('/'))
    const property = fc.asyncProperty(fc.oneof(path, fc.string({ unit: 'binary' })), async (cwd) => {
      try {
        const found = (await at(cwd)).cwd
        return (isInside(root, found) || isInside(second, found)) && (await realpath(found)) === found
      } catch (error) {
        return error instanceof Fault && error.code === 'cwd'
      }
    })
    expect((await fc.check(property, { numRuns: 500 })).failed).toBe(false)
  })
})

describe('a run without a working directory', () => {
  it('gets a private folder for its session under the first root, and the same one the next time', async () => {
    const fresh = await resolveCwd({ roots: [root, second], sessionId })
    expect(fresh).toEqual({ cwd: join(root, sessionId), created: true })
    expect((await stat(fresh.cwd)).mode & 0o777).toBe(0o700)
    expect(await resolveCwd({ roots: [root, second], sessionId })).toEqual({ cwd: join(root, sessionId), created: false })
    await discard(fresh)
    expect(await readdir(root)).not.toContain(sessionId)
  })

  it('keeps the folder when something was written, and one that it did not make', async () => {
    const used = await resolveCwd({ roots: [root], sessionId })
    await writeFile(join(used.cwd, 'kept'), '')
    await discard(used)
    expect(await readdir(used.cwd)).toEqual(['kept'])
    await rm(join(used.cwd, 'kept'))
    await discard({ cwd: used.cwd, created: false })
    expect(await readdir(root)).toContain(sessionId)
    await discard(used)
    await discard(used)
  })

  it('refuses a symlink that someone put in the place of the folder', async () => {
    const planted = '0190a8c4-7c1e-7000-8000-000000000002'
    await symlink(join(base, 'outside'), join(root, planted))
    await expect(resolveCwd({ roots: [root], sessionId: planted })).rejects.toThrow('is not a folder inside the workspace')
  })

  it('does not take a session id for a path', async () => {
    await expect(resolveCwd({ roots: [root], sessionId: '../outside' })).rejects.toThrow('is not a session id')
  })

  it('says that there is no workspace when no root exists', async () => {
    await expect(resolveCwd({ roots: [join(base, 'gone')], sessionId })).rejects.toThrow('the runner has no workspace folder')
  })
})
