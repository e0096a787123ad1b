import { chmod, mkdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { CLAUDE, tempFolder } from '../test/model/claude.ts'
import { claudeVersion, findClaude } from './claude-binary.ts'

let base: Awaited<ReturnType<typeof tempFolder>>
beforeEach(async () => {
  base = await tempFolder()
})
afterEach(() => base.remove())

async function executable(path: string, script = '#!/bin/sh\necho "1.2.3 (Claude Code)"\n'): Promise<string> {
  const file = join(base.path, path)
  await mkdir(dirname(file), { recursive: true })
  await writeFile(file, script, { mode: 0o755 })
  return file
}
const find = (more: { explicit?: string; PATH?: string } = {}): Promise<string | undefined> =>
  findClaude({ explicit: more.explicit, env: { PATH: more.PATH }, home: join(base.path, 'home'), cwd: join(base.path, 'cwd') })

describe('findClaude', () => {
  it('takes the path that a person named, also relative to the current folder', async () => {
    const named = await executable('cwd/bin/my-claude')
    await executable('path/claude')
    expect(await find({ explicit: named, PATH: join(base.path, 'path') })).toBe(named)
    expect(await find({ explicit: 'bin/my-claude' })).toBe(named)
  })

  it('says so when the named path is missing, a folder or not executable', async () => {
    await mkdir(join(base.path, 'folder'))
    await chmod(await executable('plain'), 0o644)
    for (const name of ['none', 'folder', 'plain']) {
      await expect(find({ explicit: join(base.path, name) })).rejects.toThrow(
        `${join(base.path, name)} is not an executable file`,
      )
    }
  })

  it('prefers PATH in its order to the usual places', async () => {
    await executable('home/.local/bin/claude')
    const second = await executable('b/claude')
    expect(await find({ PATH: `${join(base.path, 'a')}:${join(base.path, 'b')}` })).toBe(second)
    expect(await find({ PATH: `${join(base.path, 'a')}:${dirname(await executable('a/claude'))}` })).toBe(
      join(base.path, 'a/claude'),
    )
  })

  it('passes over folders of that name, plain files and relative entries of PATH', async () => {
    await mkdir(join(base.path, 'a/claude'), { recursive: true })
    await chmod(await executable('b/claude'), 0o644)
    await executable('cwd/claude')
    const own = await executable('home/.claude/local/claude')
    expect(await find({ PATH: `${join(base.path, 'a')}:${join(base.path, 'b')}:.::` })).toBe(own)
  })

  it('finds the one that was installed with Runyard when there is no other', async () => {
    // One in a system folder, where a test cannot put or hide any, comes first.
    expect(['/usr/local/bin/claude', '/opt/homebrew/bin/claude', '/usr/bin/claude', '/snap/bin/claude', CLAUDE]).toContain(
      await find(),
    )
  })
})

describe('claudeVersion', () => {
  it('reads the version of the real CLI', async () => {
    expect(await claudeVersion(CLAUDE)).toBe('2.1.197')
  })

  it('starts it with an empty environment but for PATH', async () => {
    process.env['RUNYARD_TEST_SECRET'] = 'x'
    try {
      expect(await claudeVersion(await executable('claude', '#!/bin/sh\necho "1.0.${RUNYARD_TEST_SECRET:-0}"\n'))).toBe('1.0.0')
    } finally {
      delete process.env['RUNYARD_TEST_SECRET']
    }
  })

  it.each([
    ['fails', '#!/bin/sh\necho 1.2.3\nexit 1\n'],
    ['says something else', '#!/bin/sh\necho hello\n'],
    ['cannot run', '#!/no/such/interpreter\n'],
  ])('is unknown when the file %s', async (_, script) => {
    expect(await claudeVersion(await executable('claude', script))).toBeUndefined()
  })
})
