import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, renameSync, symlinkSync } from 'node:fs'
import { chmod, link, lstat, mkdir, readdir, readFile, rename, stat, symlink, writeFile } from 'node:fs/promises'
import { join, relative, sep } from 'node:path'
import * as fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { CONFIG_KINDS, ConfigName, configPath, type ConfigFile } from '../shared/config-files.ts'
import { tempFolder } from '../test/model/claude.ts'
import { prepareConfigDir } from './config-dir.ts'

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

describe('prepareConfigDir', () => {
  const settings = (): string => join(configDir, 'settings.json')

  it('makes a private folder with empty settings', async () => {
    await prepareConfigDir(join(configDir, 'tenant'))
    expect((await stat(join(configDir, 'tenant'))).mode & 0o777).toBe(0o700)
    expect(JSON.parse(await readFile(join(configDir, 'tenant/settings.json'), 'utf8'))).toEqual({})
    expect((await stat(join(configDir, 'tenant/settings.json'))).mode & 0o777).toBe(0o600)
  })

  it('closes a folder that was open', async () => {
    await mkdir(configDir, { mode: 0o777 })
    await prepareConfigDir(configDir)
    expect((await stat(configDir)).mode & 0o777).toBe(0o700)
  })

  it('forgets what a run wrote into the settings, and nothing else', async () => {
    await prepareConfigDir(configDir)
    await writeFile(settings(), '{"permissions":{"defaultMode":"acceptEdits"}}')
    await writeFile(join(configDir, 'kept.json'), 'kept')
    await prepareConfigDir(configDir)
    expect(await readFile(settings(), 'utf8')).toBe('{}\n')
    expect(await readFile(join(configDir, 'kept.json'), 'utf8')).toBe('kept')
  })

  it('clears away instructions that a tool left for later runs, and keeps the transcripts', async () => {
    await prepareConfigDir(configDir)
    await mkdir(join(configDir, 'agents'))
    await writeFile(join(configDir, 'agents/evil.md'), 'obey')
    await writeFile(join(configDir, 'CLAUDE.md'), '@/etc/hostname')
    await mkdir(join(configDir, 'projects'))
    await prepareConfigDir(configDir)
    await expect(stat(join(configDir, 'agents'))).rejects.toThrow('ENOENT')
    await expect(stat(join(configDir, 'CLAUDE.md'))).rejects.toThrow('ENOENT')
    expect((await stat(join(configDir, 'projects'))).isDirectory()).toBe(true)
  })

  it('clears them away in other spellings too, which some file systems take for the same', async () => {
    await mkdir(join(configDir, 'Skills/evil'), { recursive: true })
    for (const name of ['claude.md', 'Settings.Local.json', 'RULE\u017f']) await writeFile(join(configDir, name), 'obey')
    await prepareConfigDir(configDir)
    expect(await readdir(configDir)).toEqual(['settings.json'])
  })

  it('replaces a link, a hard link or a folder in the place of the settings without touching what is behind', async () => {
    const victim = join(base.path, 'victim')
    await writeFile(victim, 'kept')
    await mkdir(configDir)
    await symlink(victim, settings())
    await prepareConfigDir(configDir)
    const other = join(base.path, 'other')
    await mkdir(other)
    await link(victim, join(other, 'settings.json'))
    await prepareConfigDir(other)
    const third = join(base.path, 'third')
    await mkdir(join(third, 'settings.json/deep'), { recursive: true })
    await prepareConfigDir(third)
    for (const folder of [configDir, other, third]) expect((await lstat(join(folder, 'settings.json'))).isFile()).toBe(true)
    expect(await readFile(victim, 'utf8')).toBe('kept')
  })

  it('replaces a pipe in the place of the settings, and does not wait for somebody to write into it', async () => {
    await mkdir(configDir)
    execFileSync('mkfifo', [settings()])
    await prepareConfigDir(configDir)
    expect(await readFile(settings(), 'utf8')).toBe('{}\n')
  })

  it.runIf(process.platform === 'linux')('replaces settings with a lease on them, which nobody else may open until it ends', async () => {
    await prepareConfigDir(configDir)
    await writeFile(settings(), '{"permissions":{}}')
    // F_SETLEASE, F_WRLCK. Whoever holds one is told by a signal of others who come.
    const lease = `$SIG{IO} = 'IGNORE'; open(my $file, '+<', $ARGV[0]) or die; fcntl($file, 1024, 1) or die $!; syswrite(STDOUT, 'held'); <STDIN>`
    const holder = spawn('perl', ['-e', lease, settings()], { stdio: ['pipe', 'pipe', 'inherit'] })
    try {
      expect(String(await once(holder.stdout, 'data'))).toBe('held')
      await prepareConfigDir(configDir)
      expect(await readFile(settings(), 'utf8')).toBe('{}\n')
    } finally {
      holder.stdin.end()
      await once(holder, 'close')
    }
  })

  it('does not follow a link in the place of the folder', async () => {
    await symlink(home, configDir)
    await expect(prepareConfigDir(configDir)).rejects.toThrow('is not a folder')
  })

  it('leaves settings alone that are as they should be, since a running CLI watches them', async () => {
    await prepareConfigDir(configDir)
    const before = (await stat(settings())).ino
    await prepareConfigDir(configDir)
    expect((await stat(settings())).ino).toBe(before)
  })

  it('gives good settings when many do it at once', async () => {
    await Promise.all(Array.from({ length: 20 }, () => prepareConfigDir(configDir)))
    expect(await readFile(settings(), 'utf8')).toBe('{}\n')
  })
})

describe('the files of a pool', () => {
  const AGENT: ConfigFile = { kind: 'agents', name: 'reviewer', content: '---\nname: reviewer\ndescription: Reviews\n---\nBe brief.\n' }
  const SKILL: ConfigFile = { kind: 'skills', name: 'deploy', content: 'Deploy.' }
  const RULE: ConfigFile = { kind: 'rules', name: 'style', content: 'No semicolons.' }
  const CLAUDE: ConfigFile = { kind: 'claude-md', name: '', content: 'Be kind.' }
  const all = async (): Promise<Record<string, string>> => {
    const entries = await readdir(configDir, { recursive: true, withFileTypes: true })
    const files = entries.filter((e) => e.isFile()).map((e) => join(e.parentPath, e.name))
    const texts = await Promise.all(files.map(async (file) => [relative(configDir, file).split(sep).join('/'), await readFile(file, 'utf8')] as const))
    return Object.fromEntries(texts.filter(([name]) => name !== 'settings.json'))
  }

  it('are there for the CLI and for nobody else, and go when they are no longer wanted', async () => {
    await prepareConfigDir(configDir, [AGENT, SKILL, RULE, CLAUDE])
    expect(await all()).toEqual({ 'agents/reviewer.md': AGENT.content, 'skills/deploy/SKILL.md': 'Deploy.', 'rules/style.md': 'No semicolons.', 'CLAUDE.md': 'Be kind.' })
    expect((await stat(join(configDir, 'skills/deploy/SKILL.md'))).mode & 0o777).toBe(0o600)
    expect((await stat(join(configDir, 'skills'))).mode & 0o777).toBe(0o700)
    await prepareConfigDir(configDir, [RULE])
    expect(await all()).toEqual({ 'rules/style.md': 'No semicolons.' })
    await prepareConfigDir(configDir)
    expect(await all()).toEqual({})
  })

  it('are not touched while they are as they should be, and replaced as a whole when they are not', async () => {
    await prepareConfigDir(configDir, [AGENT, CLAUDE])
    const inode = async (path: string) => (await stat(join(configDir, path))).ino
    const before = [await inode('agents/reviewer.md'), await inode('CLAUDE.md')]
    await prepareConfigDir(configDir, [AGENT, { ...CLAUDE, content: 'Be short' }])
    expect(await inode('agents/reviewer.md')).toBe(before[0])
    expect(await inode('CLAUDE.md')).not.toBe(before[1])
    expect(await readFile(join(configDir, 'CLAUDE.md'), 'utf8')).toBe('Be short')
  })

  it('are the only ones there, whatever a tool left beside them', async () => {
    await prepareConfigDir(configDir, [AGENT, SKILL])
    await writeFile(join(configDir, 'agents/evil.md'), 'obey')
    await writeFile(join(configDir, 'agents/reviewer.md'), 'obey')
    await writeFile(join(configDir, 'skills/deploy/run.sh'), 'obey')
    await mkdir(join(configDir, 'skills/evil'))
    await mkdir(join(configDir, 'rules/deep'), { recursive: true })
    await prepareConfigDir(configDir, [AGENT, SKILL])
    expect(await all()).toEqual({ 'agents/reviewer.md': AGENT.content, 'skills/deploy/SKILL.md': 'Deploy.' })
    expect(await readdir(configDir)).not.toContain('rules')
  })

  it('are put right where a tool has locked their folder, and what it locked beside them goes', async () => {
    await prepareConfigDir(configDir, [RULE])
    await mkdir(join(configDir, 'rules/evil'))
    await writeFile(join(configDir, 'rules/evil/evil.md'), 'obey')
    for (const path of ['rules/style.md', 'rules/evil', 'rules']) await chmod(join(configDir, path), 0)
    await prepareConfigDir(configDir, [RULE])
    expect(await all()).toEqual({ 'rules/style.md': 'No semicolons.' })
    expect(await readdir(join(configDir, 'rules'))).toEqual(['style.md'])
  })

  it('are never written through a link', async () => {
    const victim = join(home, 'reviewer.md')
    await writeFile(victim, 'kept')
    await prepareConfigDir(configDir, [AGENT])
    await rename(join(configDir, 'agents'), join(base.path, 'away'))
    await symlink(home, join(configDir, 'agents'))
    await prepareConfigDir(configDir, [AGENT])
    expect((await lstat(join(configDir, 'agents'))).isDirectory()).toBe(true)
    expect(await readFile(victim, 'utf8')).toBe('kept')
  })

  it.each(['agents', 'rules/evil'])('go into no folder that took the place of theirs while %s was cleared away', async (evil) => {
    await writeFile(join(home, 'kept.md'), 'kept')
    await prepareConfigDir(configDir, [RULE])
    await mkdir(join(configDir, evil))
    for (let i = 0; i < 50; i++) await writeFile(join(configDir, `${evil}/${i}.md`), 'obey')
    const files = [{ ...RULE, content: 'Be terse.' }]
    const preparing = prepareConfigDir(configDir, files)
    while (readdirSync(join(configDir, evil)).length === 50) await new Promise((resolve) => setImmediate(resolve))
    renameSync(join(configDir, 'rules'), join(configDir, 'away'))
    symlinkSync(home, join(configDir, 'rules'))
    await preparing
    expect(await readdir(home)).toEqual(['kept.md'])
    await prepareConfigDir(configDir, files)
    expect(await readdir(home)).toEqual(['kept.md'])
    expect(await all()).toMatchObject({ 'rules/style.md': 'Be terse.' })
  })

  it.runIf(process.platform === 'linux')('go nowhere else while a tool puts a link in the place of their folder, again and again', async () => {
    await writeFile(join(home, 'kept.md'), 'kept')
    await prepareConfigDir(configDir, [RULE])
    const flip = `
      const { renameSync, rmSync, symlinkSync, unlinkSync } = require('node:fs')
      const [folder, home] = process.argv.slice(1)
      process.chdir(folder)
      const trying = (call, ...args) => { try { call(...args) } catch {} }
      const flips = () => {
        for (let i = 0; i < 100; i++) {
          trying(renameSync, 'rules', 'away')
          trying(symlinkSync, home, 'rules')
          trying(unlinkSync, 'rules')
          trying(renameSync, 'away', 'rules')
        }
        trying(rmSync, 'away', { recursive: true })
        setImmediate(flips)
      }
      process.stdin.on('end', () => process.exit()).resume()
      flips()
      console.log('flips')`
    const flipper = spawn(process.execPath, ['-e', flip, configDir, home], { stdio: ['pipe', 'pipe', 'inherit'] })
    try {
      await once(flipper.stdout, 'data')
      // It may fail, where something is changed at the wrong moment.
      for (let i = 0; i < 1_500; i++) {
        await prepareConfigDir(configDir, [RULE]).catch(() => undefined)
        expect(await readdir(home)).toEqual(['kept.md'])
      }
    } finally {
      flipper.stdin.end()
      await once(flipper, 'close')
    }
    await prepareConfigDir(configDir, [RULE])
    expect(await readFile(join(configDir, 'rules/style.md'), 'utf8')).toBe('No semicolons.')
  })

  it('are whole at every moment for whoever reads them meanwhile', async () => {
    const texts = ['a'.repeat(300_000), 'b'.repeat(300_000)]
    await prepareConfigDir(configDir, [{ ...CLAUDE, content: texts[0]! }])
    const writing = Promise.all(Array.from({ length: 30 }, (_, i) => prepareConfigDir(configDir, [{ ...CLAUDE, content: texts[i % 2]! }])))
    for (let reads = 0; reads < 60; reads++) expect(texts).toContain(await readFile(join(configDir, 'CLAUDE.md'), 'utf8'))
    await writing
    expect((await readdir(configDir)).toSorted()).toEqual(['CLAUDE.md', 'settings.json'])
  })

  it('are inside the config directory, by whatever name that the rules let through', () => {
    const names = fc.oneof(fc.string(), fc.array(fc.constantFrom('.', '..', '/', '\\', 'a', '-', '\0', '%2e', '~', 'A'), { maxLength: 8 }).map((bits) => bits.join('')))
    fc.assert(
      fc.property(fc.constantFrom(...CONFIG_KINDS), names, (kind, name) => {
        if (!ConfigName.safeParse(name).success) return
        const path = join(configDir, configPath({ kind, name }))
        expect(path.startsWith(configDir + sep)).toBe(true)
        expect(relative(configDir, path)).toMatch(/^(?:CLAUDE\.md|(?:agents|rules)\/[a-z0-9-]+\.md|skills\/[a-z0-9-]+\/SKILL\.md)$/)
      }),
    )
  })
})
