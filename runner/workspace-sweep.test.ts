import { mkdir, mkdtemp, readdir, realpath, rm, stat, symlink, utimes, writeFile, chmod } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { InUse } from './in-use.ts'
import { removeTree } from './held-folder.ts'
import { sweepSessions } from './workspace-sweep.ts'

const DAY_MS = 86_400_000
const NOW = Date.parse('2026-06-01T00:00:00Z')
const id = (n: number) => `0190a8c4-7c1e-4000-8000-${n.toString(16).padStart(12, '0')}`

let base = ''
let root = ''
let configRoot = ''
let inUse: InUse
let logged: string[]
beforeEach(async () => {
  base = await realpath(await mkdtemp(join(tmpdir(), 'runyard-sweep-')))
  root = join(base, 'root')
  configRoot = join(base, 'config')
  inUse = new InUse()
  logged = []
  await mkdir(root)
  await mkdir(configRoot)
})
afterEach(() => rm(base, { recursive: true, force: true }))

const sweep = (days = 30) => sweepSessions({ roots: [root], configRoot, days, inUse, log: (message) => logged.push(message) }, NOW)
const there = (path: string) => stat(path).then(() => true, () => false)

async function file(path: string, daysAgo: number): Promise<string> {
  await mkdir(dirname(path), { recursive: true })
  await writeFile(path, 'x')
  await aged(path, daysAgo)
  return path
}
async function aged(path: string, daysAgo: number): Promise<void> {
  const at = new Date(NOW - daysAgo * DAY_MS)
  await utimes(path, at, at)
}
const transcript = (of: string, slug: string, daysAgo: number, tenant = 'main') => file(join(configRoot, tenant, 'projects', slug, `${of}.jsonl`), daysAgo)
/** A session in a folder of its own, as a run leaves it. */
async function session(n: number, daysAgo: number): Promise<string> {
  const folder = join(root, id(n))
  await file(join(folder, 'src/work.txt'), daysAgo)
  await transcript(id(n), `slug-${n}`, daysAgo)
  await aged(folder, daysAgo)
  return folder
}

describe('the cleaning of sessions', () => {
  it('takes the folder and the transcript of one without a run for so long, with all that is beside it', async () => {
    const old = await session(1, 31)
    const young = await session(2, 29)
    const beside = [
      await file(join(configRoot, 'main/session-env', id(1), 'hook'), 31),
      await file(join(configRoot, 'main/projects/slug-1', id(1), 'tool-results/a.txt'), 31),
      await file(join(configRoot, 'main/projects/slug-1/memory/m.md'), 31),
    ]
    expect(await sweep()).toEqual({ folders: 1, transcripts: 1 })
    expect(await Promise.all([old, ...beside].map(there))).toEqual([false, false, false, false])
    expect(await there(young)).toBe(true)
    expect(await readdir(join(configRoot, 'main/projects'))).toEqual(['slug-2'])
    expect(await readdir(root)).toEqual([id(2)])
    expect(logged).toEqual(['sessions without a run for a long time were cleaned away'])
    expect(await sweep()).toEqual({ folders: 0, transcripts: 0 })
  })

  it('never does at 0 days', async () => {
    const old = await session(1, 9_999)
    expect(await sweep(0)).toEqual({ folders: 0, transcripts: 0 })
    expect(await there(old)).toBe(true)
  })

  it.each([
    ['its id', () => [id(1)]],
    ['its folder', () => [join(root, id(1))]],
    ['a folder in its folder', () => [join(root, id(1), 'src')]],
    ['a fork in its folder', () => [id(7)]],
  ])('leaves one alone that a live run uses by %s', async (_what, names) => {
    const old = await session(1, 40)
    await transcript(id(7), 'slug-1', 40)
    const letGo = inUse.hold(names())
    expect(await sweep()).toEqual({ folders: 0, transcripts: 0 })
    letGo()
    expect(await sweep()).toEqual({ folders: 1, transcripts: 2 })
    expect(await there(old)).toBe(false)
  })

  it('counts the runs of forks in a folder, and files at its top', async () => {
    const forked = await session(1, 40)
    await transcript(id(7), 'slug-1', 2)
    const touched = await session(2, 40)
    await writeFile(join(touched, 'by-its-owner'), '')
    await aged(touched, 3)
    const below = await session(3, 40)
    await transcript(id(8), `-root-${id(3)}-src`, 2)
    expect(await sweep()).toEqual({ folders: 0, transcripts: 0 })
    expect(await Promise.all([forked, touched, below, join(configRoot, 'main/projects/slug-1', `${id(1)}.jsonl`)].map(there))).toEqual([true, true, true, true])
  })

  it('takes only the transcripts of sessions in folders of an owner or with a name', async () => {
    const owned = await file(join(root, 'project/file'), 99)
    const named = await file(join(root, 'named/main/site/file'), 99)
    const others = await file(join(root, id(9), 'of-another-runner'), 99)
    await aged(dirname(others), 99)
    const old = await transcript(id(1), 'slug-project', 31)
    const young = await transcript(id(2), 'slug-project', 3)
    const memory = await file(join(configRoot, 'main/projects/slug-site/memory/m.md'), 99)
    const site = await transcript(id(3), 'slug-site', 31, 'main')
    const busy = await transcript(id(4), 'slug-site', 31, 'main')
    inUse.hold([id(4)])
    expect(await sweep()).toEqual({ folders: 0, transcripts: 2 })
    expect(await Promise.all([owned, named, others, young, memory, busy].map(there))).toEqual([true, true, true, true, true, true])
    expect(await Promise.all([old, site].map(there))).toEqual([false, false])
  })

  it('is not led out of its folders by links and names', async () => {
    const outside = await file(join(base, 'outside', `${id(1)}.jsonl`), 99)
    const kept = await file(join(base, 'outside/deep/kept.txt'), 99)
    await mkdir(join(configRoot, 'main/projects/slug'), { recursive: true })
    await symlink(join(base, 'outside'), join(configRoot, 'main/projects/linked'))
    await symlink(join(base, 'outside'), join(root, id(2)))
    await transcript(id(2), 'slug', 99)
    await symlink(join(base, 'outside'), join(configRoot, 'main/projects/slug', id(2)))
    for (const name of ['.jsonl', '...jsonl', '..jsonl']) await file(join(configRoot, 'main/projects/slug', name), 99)
    const folder = await session(3, 99)
    await symlink(join(base, 'outside'), join(folder, 'src/link'))
    await aged(folder, 99)
    await symlink(join(base, 'outside'), join(configRoot, 'evil'))
    await symlink(join(base, 'outside'), join(root, '.runyard-removed-x'))
    await sweep()
    expect(await Promise.all([outside, kept, folder].map(there))).toEqual([true, true, false])
    expect(await readdir(join(configRoot, 'main/projects'))).toEqual(['linked'])
  })

  it('goes on with what a killed runner had begun, and past what it cannot remove', async () => {
    await file(join(root, `.runyard-removed-${id(1)}-x`, 'a/b'), 1)
    const old = await session(2, 99)
    await chmod(join(old, 'src'), 0o500)
    await aged(old, 99)
    expect(await sweep()).toMatchObject({ folders: 1 })
    expect(await readdir(root)).toEqual([])
  })
})

describe('removing a tree', () => {
  it('ends with one that is deeper than there are file descriptors, and with names that are no text', async () => {
    const top = join(base, 'deep')
    await mkdir(join(top, ...Array.from({ length: 600 }, () => 'd')), { recursive: true })
    await writeFile(Buffer.concat([Buffer.from(`${top}/d/`), Buffer.from([0xff, 0xfe, 0x2e])]), 'x')
    await removeTree(top)
    expect(await there(top)).toBe(false)
    await removeTree(top)
  })
})
