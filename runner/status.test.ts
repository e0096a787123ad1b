import { mkdir, mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { until } from '../test/kit/wait.ts'
import { parsePolicy } from './policy.ts'
import { keepStatus, readStatus, type RunnerStatus } from './status.ts'

const status: RunnerStatus = {
  pid: process.pid,
  started_at: new Date(0).toISOString(),
  runner_id: 'rnr_1',
  url: 'http://127.0.0.1:1',
  connected: false,
  draining: false,
  slots: 2,
  busy: 0,
  warm: { processes: 0, spares: 0, memory_bytes: 0, budget_bytes: 1 },
  login: 'none',
  provider: null,
  sandbox: { mode: 'none', means: 'nothing' },
  agent_version: '0.0.0-test',
  cli: { path: '/claude', version: null },
  workspaces: ['/work'],
  policy: parsePolicy('max_turns = 3', 'runner.toml'),
  source: { file: 'runner.toml', found: true, keys: { max_turns: 'file' } },
}

describe('the status of a runner', () => {
  let dir: string
  beforeEach(async () => void (dir = await mkdtemp(join(tmpdir(), 'runyard-status-'))))
  afterEach(() => rm(dir, { recursive: true, force: true }))

  it('is read as it was written, follows what changes, and is gone at the end', async () => {
    let now = status
    const kept = keepStatus(dir, () => now, () => undefined)
    await until('it to be there', async () => (await readStatus(dir))?.busy === 0)
    expect(await readStatus(dir)).toEqual(status)
    expect((await stat(join(dir, 'status.json'))).mode & 0o777).toBe(0o600)
    now = { ...status, connected: true, busy: 1 }
    await until('it to have changed', async () => (await readStatus(dir))?.busy === 1)
    await kept.close()
    expect(await readdir(dir)).toEqual([])
  })

  it('is told of once when it cannot be written, and there as soon as it can', async () => {
    const told: string[] = []
    const missing = join(dir, 'missing')
    let looks = 0
    const kept = keepStatus(missing, () => ({ ...status, busy: ++looks }), (message) => told.push(message))
    await until('a few attempts', () => looks > 2)
    expect(told).toEqual(['the status of the runner cannot be written'])
    await mkdir(missing)
    await until('it to be there', () => readStatus(missing))
    await kept.close()
  })

  const other = JSON.stringify({ ...status, policy: { bypass: 'yes' } })
  it.each(['', '{', '{}', other])('is none when the file says %j', async (text) => {
    await writeFile(join(dir, 'status.json'), text)
    expect(await readStatus(dir)).toBeUndefined()
  })
})
