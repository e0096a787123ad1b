import { mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { ConfigFile } from '../shared/config-files.ts'
import { ConfigFiles } from './config-files.ts'

const RULE: ConfigFile = { kind: 'rules', name: 'style', content: 'No semicolons.' }
const CLAUDE: ConfigFile = { kind: 'claude-md', name: '', content: 'Be kind.' }

describe('the files that the router sends', () => {
  let stateDir = ''
  beforeEach(async () => {
    stateDir = await mkdtemp(join(tmpdir(), 'runyard-config-files-'))
  })
  afterEach(() => rm(stateDir, { recursive: true, force: true }))
  const open = (allowed = true) => new ConfigFiles({ stateDir, allowed, log: () => undefined })
  const whole = (files: readonly object[], version = 1) => ({ version, part: 0, parts: 1, files: files as ConfigFile[] })

  it('are in force once the last part is there, and after a restart, until others take their place', async () => {
    const config = open()
    expect(config.take({ version: 3, part: 0, parts: 2, files: [RULE] })).toBeUndefined()
    expect(config.files).toEqual([])
    expect(config.take({ version: 3, part: 1, parts: 2, files: [CLAUDE] })).toEqual({ t: 'configured', version: 3 })
    expect(config.files).toEqual([RULE, CLAUDE])
    expect(open().files).toEqual([RULE, CLAUDE])
    expect((await stat(join(stateDir, 'config-files.json'))).mode & 0o777).toBe(0o600)
    expect(config.take(whole([], 0))).toEqual({ t: 'configured', version: 0 })
    expect(config.files).toEqual([])
    expect(open().files).toEqual([])
  })

  it('are taken as a whole: parts of a connection that was cut go to nobody', () => {
    const config = open()
    config.take({ version: 3, part: 0, parts: 3, files: [RULE] })
    expect(config.take({ version: 3, part: 2, parts: 3, files: [CLAUDE] })).toBeUndefined()
    expect(config.take({ version: 4, part: 1, parts: 3, files: [CLAUDE] })).toBeUndefined()
    expect(config.take(whole([CLAUDE], 5))).toEqual({ t: 'configured', version: 5 })
    expect(config.files).toEqual([CLAUDE])
  })

  it('are looked at once more, one by one', () => {
    const config = open()
    const bad = [
      { kind: 'agents', name: '../../evil', content: 'x' },
      { kind: 'agents', name: 'a', content: '---\nhooks: {}\n---\n' },
      { kind: 'claude-md', name: '', content: '@/etc/passwd' },
      { kind: 'claude-md', name: 'x', content: 'x' },
      { kind: 'agents', name: '', content: 'x' },
      { kind: 'output-styles', name: 'loud', content: 'x' },
    ]
    const answer = config.take(whole([...bad, RULE]))
    expect(answer).toMatchObject({ version: 1, error: expect.stringMatching(/^6 files were left out: .*its front matter/s) })
    expect(answer!.error!.length).toBeLessThanOrEqual(512)
    expect(config.files).toEqual([RULE])
  })

  it('are named when they are left out, also when it is the name that is wrong', () => {
    const long = 'a'.repeat(61)
    const files = [
      { ...RULE, name: long },
      { ...RULE, name: 'a'.repeat(60) },
      { kind: 'agents', name: '../x', content: 'x' },
      { kind: 'claude-md', name: '', content: '' },
      { kind: 'hooks', name: 'a', content: 'x' },
      { ...RULE, name: 'a\nb' },
      {},
    ]
    const { error } = open().take(whole(files))!
    for (const part of [`6 files were left out: rules/${long} name: Too big`, 'agents/../x name: ', 'claude-md content: ', 'file 5 kind: ', 'file 6 name: ', 'file 7 ']) {
      expect(error).toContain(part)
    }
  })

  it('are none where the owner wants none', async () => {
    open().take(whole([RULE]))
    const config = open(false)
    expect(config.files).toEqual([])
    expect(await readdir(stateDir)).toEqual([])
    expect(config.take(whole([RULE]))).toMatchObject({ version: 1, error: expect.stringContaining('config_files') })
    expect(config.files).toEqual([])
    expect(config.take(whole([]))).toEqual({ t: 'configured', version: 1 })
  })

  it('are forgotten when what is on disk is no such thing', async () => {
    for (const text of ['', '{"version":1,"files":[{"kind":"agents","name":"../x","content":"x"}]}', '{"version":-1}', 'null']) {
      await writeFile(join(stateDir, 'config-files.json'), text)
      expect(open().files).toEqual([])
    }
  })
})
