import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { tempFolder } from '../test/model/claude.ts'
import { closedPaths, rootsAround } from './closed-folders.ts'

describe('what tools of a run are kept out of', () => {
  let base: Awaited<ReturnType<typeof tempFolder>>
  beforeAll(async () => {
    base = await tempFolder()
    for (const dir of ['app', 'data/runner/config/main', 'data/runner/runs', 'data/workspaces']) await mkdir(at(dir), { recursive: true })
    for (const file of ['data/runyard.db', 'data/runner/signing.jwk']) await writeFile(at(file), '')
  })
  afterAll(() => base.remove())
  const at = (path: string) => join(base.path, path)
  const closed = async (roots: string[], folders: string[]) => {
    const all = { closed: ['data/runner', 'data'].map(at), needed: ['data/runner/config', 'data/runner/runs'].map(at) }
    const paths = await closedPaths({ ...all, roots: roots.map(at), folders: folders.map(at) })
    return paths.map((path) => path.slice(base.path.length + 1)).toSorted()
  }

  it('is nothing where no root is around the runner', async () => {
    expect(await closed(['data/workspaces', 'app'], ['app'])).toEqual([])
    expect(rootsAround([at('data/workspaces'), at('app'), at('dat')], [at('data')])).toEqual([])
    expect(rootsAround([base.path, at('data')], [at('data')])).toEqual([base.path, at('data')])
  })

  it('is all of it for a run that works around it, by its folder or a further one', async () => {
    expect(await closed([''], [''])).toEqual(['data', 'data/runner'])
    expect(await closed([''], ['app', ''])).toEqual(['data', 'data/runner'])
  })

  it('is all but what the CLI reads itself for a run beside it', async () => {
    expect(await closed([''], ['app'])).toEqual(['data/runner/signing.jwk', 'data/runyard.db', 'data/workspaces'])
  })

  it('is never a root that lies inside', async () => {
    expect(await closed(['', 'data/workspaces'], ['data/workspaces'])).toEqual(['data/runner/signing.jwk', 'data/runyard.db'])
    expect(await closed(['', 'data/workspaces'], [''])).toEqual(['data/runner', 'data/runyard.db'])
  })
})
