import { mkdir, mkdtemp, readdir, readFile, realpath, rm, writeFile } from 'node:fs/promises'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { until } from '../test/kit/wait.ts'
import type { Offer } from '../shared/frames.ts'
import { Policy } from './policy.ts'
import { preparer } from './prepare.ts'
import { detect } from './sandbox.ts'

describe('getting CLIs ready', () => {
  let root: string
  let workspace: string
  let claude: string
  let diary: string
  beforeAll(async () => {
    root = await realpath(await mkdtemp(join(tmpdir(), 'runyard-prepare-')))
    workspace = join(root, 'work')
    await mkdir(workspace)
    diary = join(root, 'diary')
    claude = join(root, 'claude')
    // Writes down that it starts, waits until the test lets it go on, and gives up.
    await writeFile(claude, `#!/bin/sh\necho start >> ${diary}\nwhile [ ! -e ${root}/go ]; do sleep 0.02; done\necho end >> ${diary}\nexit 3\n`, { mode: 0o755 })
  })
  afterAll(() => rm(root, { recursive: true, force: true }))

  const diaryLines = async () => (await readFile(diary, 'utf8').catch(() => '')).split('\n').filter((line) => line !== '')

  it('starts one for each processor at a time, and none for an offer that was withdrawn while it waited', async () => {
    const prepare = preparer({
      sandbox: await detect('none', { env: process.env, claude }),
      policy: Policy.parse({}),
      roots: [workspace],
      configRoot: join(root, 'config'),
      privateRoot: join(root, 'runs'),
      provider: 'local',
      login: { kind: 'none' },
      env: { PATH: process.env['PATH'] },
      home: root,
      log: () => undefined,
    })
    const cores = availableParallelism()
    const offer = (): Offer => ({
      t: 'offer',
      id: randomUUID(),
      run: `run_${randomUUID().replaceAll('-', '')}`,
      fence: 1,
      start_by_ms: 15_000,
      spec: { tenant: 'default', prompt: 'hi', session: { mode: 'new', id: randomUUID() }, timeout_s: 60 },
    })
    const withdrawn = new AbortController()
    const never = new AbortController()
    const outcome = (signal: AbortSignal) => prepare(offer(), randomUUID(), signal).then(() => 'ready', (error: unknown) => (error as { code: string }).code)
    const first = Array.from({ length: cores + 2 }, () => outcome(never.signal))
    await until('the first ones to start', async () => (await diaryLines()).length === cores)
    const waiting = outcome(withdrawn.signal)
    withdrawn.abort()
    expect(await waiting).toBe('start_by')
    expect(await diaryLines()).toHaveLength(cores)
    await writeFile(join(root, 'go'), '')
    expect(await Promise.all(first)).toEqual(Array(cores + 2).fill('cli'))
    expect((await diaryLines()).filter((line) => line === 'start')).toHaveLength(cores + 2)
    // Nothing is kept of those that did not get ready, the folders of their sessions included.
    expect([await readdir(join(root, 'runs')), await readdir(workspace)]).toEqual([[], []])
  })
})
