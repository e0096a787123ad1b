import { mkdir, mkdtemp, readdir, realpath, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Fault } from '../shared/faults.ts'
import { Name } from '../shared/ids.ts'
import { discard, isInside, resolveCwd, resolveDirs } from './workspace.ts'

const sessionId = '0190a8c4-7c1e-7000-8000-000000000001'
const session = { mode: 'new', id: sessionId } as const
const tenant = 'main'
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

const at = (cwd: string): Promise<{ cwd: string; created: boolean }> => resolveCwd({ roots: [root, second], cwd, tenant, session })
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
    expect((await resolveCwd({ roots: [join(base, 'root-alias')], cwd: 'app', tenant, session })).cwd).toBe(join(root, 'app'))
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
    const fresh = await resolveCwd({ roots: [root, second], tenant, session })
    expect(fresh).toEqual({ cwd: join(root, sessionId), created: true })
    expect((await stat(fresh.cwd)).mode & 0o777).toBe(0o700)
    expect(await resolveCwd({ roots: [root, second], tenant, session })).toEqual({ cwd: join(root, sessionId), created: false })
    await discard(fresh)
    expect(await readdir(root)).not.toContain(sessionId)
  })

  it('keeps the folder when something was written, and one that it did not make', async () => {
    const used = await resolveCwd({ roots: [root], tenant, session })
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
    await expect(resolveCwd({ roots: [root], tenant, session: { mode: 'new', id: planted } })).rejects.toThrow('is not a folder inside the workspace')
  })

  it('does not take a session id for a path', async () => {
    await expect(resolveCwd({ roots: [root], tenant, session: { mode: 'new', id: '../outside' } })).rejects.toThrow('is not a session id')
  })

  it('says that there is no workspace when no root exists', async () => {
    await expect(resolveCwd({ roots: [join(base, 'gone')], tenant, session })).rejects.toThrow('the runner has no workspace folder')
  })
})

describe('a run in a folder with a name', () => {
  const named = (workspace: string, of = tenant) => resolveCwd({ roots: [root, second], tenant: of, session, workspace })

  it('gets the same private folder as all that name it, apart from sessions and other tenants', async () => {
    const first = await named('site')
    expect(first).toEqual({ cwd: join(root, 'named', tenant, 'site'), created: false })
    expect((await stat(first.cwd)).mode & 0o777).toBe(0o700)
    expect(await named('site')).toEqual(first)
    expect((await named('site', 'other')).cwd).not.toBe(first.cwd)
    expect((await named(sessionId)).cwd).not.toBe(join(root, sessionId))
  })

  it('is never outside of its tenant, whatever the name', async () => {
    const name = fc.oneof(fc.string(), fc.constantFrom('.', '..', 'a/b', '../other', '.hidden', '', 'a\0b', 'x'.repeat(64)), fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9._-]{0,30}$/))
    await fc.assert(
      fc.asyncProperty(name, async (workspace) => {
        const found = await named(workspace).then(
          ({ cwd }) => cwd,
          () => 'refused',
        )
        expect(found).toBe(Name.safeParse(workspace).success ? `${root}/named/${tenant}/${workspace}` : 'refused')
      }),
      { numRuns: 60 },
    )
  })

  it('refuses a link in place of the folder, also one that leads to another of the same tenant', async () => {
    await named('target')
    await symlink(join(root, 'named', tenant, 'target'), join(root, 'named', tenant, 'alias'))
    await symlink(join(base, 'outside'), join(root, 'named', tenant, 'out'))
    for (const name of ['alias', 'out']) await expect(named(name)).rejects.toMatchObject({ code: 'cwd' })
  })

  it('is not also given a cwd', async () => {
    await expect(resolveCwd({ roots: [root], tenant, session, cwd: 'app', workspace: 'site' })).rejects.toMatchObject({ code: 'invalid_request' })
  })
})

describe('a session that goes on', () => {
  const gone = '0190a8c4-7c1e-7000-8000-00000000000f'
  const resume = { mode: 'resume', id: gone } as const

  it('is not found when the folder that was made for it is gone, and none is made', async () => {
    for (const use of [resume, { mode: 'fork', id: sessionId, from: gone } as const]) {
      await expect(resolveCwd({ roots: [root], tenant, session: use, cwd: join(root, gone) })).rejects.toMatchObject({
        code: 'session_not_found',
        message: `session ${gone} is no longer on this runner: its folder is gone`,
      })
    }
    await expect(resolveCwd({ roots: [root], tenant, session: resume })).rejects.toMatchObject({ code: 'session_not_found' })
    expect(await readdir(root)).not.toContain(gone)
  })

  it('is told of its folder when that was the owner\'s', async () => {
    await expect(resolveCwd({ roots: [root], tenant, session: resume, cwd: join(root, 'moved') })).rejects.toMatchObject({ code: 'cwd' })
  })
})

describe('further folders', () => {
  const dirs = (...paths: string[]) => resolveDirs({ roots: [root, second], dirs: paths, closed: [join(root, 'state'), base] })

  it('are real folders inside the roots, each once', async () => {
    expect(await dirs('app', 'link-in', join(second, 'lib'), './app/')).toEqual([join(root, 'app'), join(second, 'lib')])
    expect(await dirs()).toEqual([])
  })

  it.each(['..', 'link-out', 'file.txt', 'nowhere', '/etc', 'state', 'state/runner', 'app/../state', '--model=x', 'a\nb'])('are not %j, which is named', async (path) => {
    await mkdir(join(root, 'state/runner'), { recursive: true })
    await expect(dirs('app', path)).rejects.toMatchObject({ code: 'cwd', message: `add_dirs: ${JSON.stringify(path)} is not a folder inside the workspace` })
  })

  it('are nothing else, however they are written', async () => {
    await mkdir(join(root, 'state/runner'), { recursive: true })
    const step = fc.constantFrom('..', '.', '', 'app', 'src', 'state', 'runner', 'link-in', 'link-out', 'loop', 'lib', 'deep', 'x')
    const start = fc.constantFrom('', '/', base, root, second, `${base}/outside`)
    await fc.assert(
      fc.asyncProperty(start, fc.array(step, { minLength: 1, maxLength: 5 }), async (from, steps) => {
        const path = [from, ...steps].join('/')
        const found = await dirs(path).catch((error: unknown) => (error instanceof Fault ? [] : ['not a refusal']))
        for (const dir of found) {
          expect(await realpath(dir)).toBe(dir)
          expect([root, second].some((inside) => isInside(inside, dir)) && !isInside(join(root, 'state'), dir)).toBe(true)
        }
      }),
      { numRuns: 300 },
    )
  })

  it('may hold a folder of the runner, which is not opened by that', async () => {
    expect(await dirs('.')).toEqual([root])
  })
})

describe('the folders of the runner, in a root that is around them', () => {
  const closed = async () => {
    const data = join(root, 'data')
    await mkdir(join(data, 'runner/config'), { recursive: true })
    await mkdir(join(data, 'workspaces/app'), { recursive: true })
    await symlink(join(data, 'runner'), join(root, 'link-to-runner')).catch(() => undefined)
    return [join(data, 'runner'), data]
  }
  const wish = { roots: [] as string[], tenant, session }

  it.each(['data', 'data/runner', 'data/runner/config', 'app/../data/runner', 'link-to-runner', 'link-to-runner/config'])('are no working directory: %j', async (cwd) => {
    await expect(resolveCwd({ ...wish, roots: [root], closed: await closed(), cwd })).rejects.toMatchObject({
      code: 'cwd',
      message: `${JSON.stringify(cwd)} is not a folder inside the workspace`,
    })
  })

  it('are none when they are the root, under a name or for a session either, and nothing is made there', async () => {
    const [runner, data] = (await closed()) as [string, string]
    const before = await readdir(data)
    for (const more of [{}, { workspace: 'site' }, { cwd: '.' }, { cwd: runner }]) {
      await expect(resolveCwd({ ...wish, roots: [data], closed: [runner, data], ...more })).rejects.toMatchObject({ code: 'cwd' })
    }
    expect(await readdir(data)).toEqual(before)
    const named = join(root, 'named')
    await expect(resolveCwd({ ...wish, roots: [root], closed: [named], workspace: 'site' })).rejects.toMatchObject({ code: 'cwd' })
  })

  it('leave all else open: the root, what is beside them, and a root of its own inside', async () => {
    const inside = async (roots: string[], cwd: string) => (await resolveCwd({ ...wish, roots, closed: await closed(), cwd })).cwd
    expect(await inside([root], '.')).toBe(root)
    expect(await inside([root], 'app')).toBe(join(root, 'app'))
    const own = join(root, 'data/workspaces')
    expect(await inside([root, own], join(own, 'app'))).toBe(join(own, 'app'))
    expect(await inside([own], 'app')).toBe(join(own, 'app'))
    await expect(inside([root, own], 'data/runner')).rejects.toMatchObject({ code: 'cwd' })
  })
})
