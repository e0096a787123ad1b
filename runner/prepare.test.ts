import { mkdir, mkdtemp, readdir, readFile, realpath, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { generateKeyPair } from 'jose'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Offer } from '../shared/frames.ts'
import type { Recipe } from './cli-start.ts'
import { systemClock, type Clock } from './clock.ts'
import { startGateway, type Gateway } from './gateway/gateway.ts'
import { InUse } from './in-use.ts'
import type { Machine } from './machine.ts'
import { parsePolicy } from './policy.ts'
import { preparer } from './prepare.ts'
import { detect } from './sandbox.ts'
import { SpawnQueue } from './spawns.ts'
import { WarmPool } from './warm/pool.ts'
import { WarmRecords } from './warm/record.ts'
import { Spares } from './warm/spares.ts'
import { processesWith } from '../test/kit/processes.ts'
import { until } from '../test/kit/wait.ts'

const CLI = fileURLToPath(new URL('../test/chaos/fake-claude.mjs', import.meta.url))
const SESSION = '0190a8c4-7c1e-4000-8000-000000000001'
const offer = (fence: number, more: Partial<Offer['spec']> = {}): Offer => ({
  t: 'offer',
  id: `o${fence}`,
  run: `run_${'a'.repeat(32)}`,
  fence,
  spec: { tenant: 'default', session: { mode: 'new', id: SESSION }, prompt: '{}', timeout_s: 60, ...more },
  start_by_ms: 15_000,
})

describe('preparing a run', () => {
  let dir: string
  let gateway: Gateway
  beforeEach(async () => {
    dir = await realpath(await mkdtemp(join(tmpdir(), 'runyard-prepare-')))
    gateway = await startGateway({ env: {}, clock: systemClock, report: () => undefined, log: () => undefined })
  })
  afterEach(async () => {
    await gateway.close()
    await rm(dir, { recursive: true, force: true })
  })

  const inUse = new InUse()
  type Setting = { closed?: string[]; roots?: string[]; claude?: string; clock?: Clock; log?: (message: string, fields: Record<string, unknown>) => void }
  const machineOf = async ({ closed = [], roots = [dir], claude = CLI, clock = systemClock, log = () => undefined }: Setting = {}): Promise<Machine> => {
    const env = { PATH: process.env['PATH'], HOME: dir, CHAOS_LOG: join(dir, 'diary') }
    const warm = new WarmPool({ clock, limits: { idleMs: 60_000, budgetBytes: 2 ** 32, spares: 2 }, memoryOf: () => Promise.resolve(0), log })
    return {
      sandbox: await detect('none', { env, claude, hidden: [] }),
      policy: parsePolicy('env_allow = ["CHAOS_LOG"]', 'runner.toml'),
      roots,
      closed,
      inUse,
      configRoot: join(dir, 'config'),
      config: { files: [] },
      privateRoot: join(dir, 'runs'),
      treasury: {
        provider: 'demo',
        login: { kind: 'env', env: { ANTHROPIC_API_KEY: 'sk-test-not-a-key' } },
        sealingKey: (await generateKeyPair('ECDH-ES', { crv: 'P-256' })).privateKey,
      },
      gateway,
      warm,
      records: new WarmRecords(join(dir, 'state'), () => undefined),
      env,
      home: dir,
      log,
    }
  }
  const machine = async (setting?: Setting) => preparer(await machineOf(setting))

  it('gives a second offer of a session its folder, although the first one is withdrawn and takes its own away', async () => {
    const prepare = await machine()
    const withdrawn = new AbortController()
    const first = prepare(offer(1), '0190a8c4-7c1e-4000-8000-0000000000a1', withdrawn.signal)
    const second = prepare(offer(2), '0190a8c4-7c1e-4000-8000-0000000000a2', new AbortController().signal)
    withdrawn.abort()
    await expect(first).rejects.toThrow('withdrawn')
    const prepared = await second
    expect((await stat(join(dir, SESSION))).isDirectory()).toBe(true)
    expect(prepared.cwd).toBe(join(dir, SESSION))
    // From here on nobody may clean them away, and not after the run is forgotten.
    const used = () => [inUse.has(SESSION), inUse.hasIn(join(dir, SESSION))]
    expect(used()).toEqual([true, true])
    await prepared.process.cancel('kill')
    expect(used()).toEqual([true, true])
    await prepared.dispose()
    await until('its process to be cleared away', async () => !inUse.has(SESSION) && (await readdir(join(dir, 'runs'))).length === 0)
    expect(used()).toEqual([false, false])
  })

  it('keeps a run out of the folders of the runner inside its workspace, and tools of one that works around them', async () => {
    const state = join(dir, 'state')
    await mkdir(join(state, 'spool'), { recursive: true })
    const prepare = await machine({ closed: [state] })
    const run = (more: Partial<Offer['spec']>) => prepare(offer(1, more), '0190a8c4-7c1e-4000-8000-0000000000a3', new AbortController().signal)
    for (const more of [{ cwd: 'state' }, { cwd: 'state/spool' }, { cwd: '.', add_dirs: ['state'] }]) {
      await expect(run(more)).rejects.toMatchObject({ code: 'cwd' })
    }
    const prepared = await run({ cwd: '.', disallowed_tools: ['WebFetch'] })
    const [folder = ''] = await readdir(join(dir, 'runs'))
    const { permissions } = JSON.parse(await readFile(join(dir, 'runs', folder, 'settings.json'), 'utf8')) as { permissions: { deny: string[] } }
    expect(permissions.deny).toEqual(['WebFetch', `Read(/${state})`, `Read(/${state}/**)`, `Edit(/${state})`, `Edit(/${state}/**)`])
    await prepared.process.cancel('kill')
    await prepared.dispose()
  })

  const MARKER = '0190a8c4-7c1e-4000-8000-0000000000a4'
  const never = new AbortController().signal
  /** Of the run: its fresh folder, its processes, what was made for them, and what nobody may clean away. */
  const left = async (root = dir) => ({
    folder: (await readdir(root)).includes(SESSION),
    processes: await processesWith(MARKER),
    uses: inUse.has(SESSION) || inUse.hasIn(root),
  })
  const NOTHING = { folder: false, processes: [], uses: false }
  const script = async (...lines: string[]) => {
    const file = join(dir, 'claude')
    await writeFile(file, ['#!/bin/sh', ...lines, ''].join('\n'), { mode: 0o755 })
    return file
  }

  it('leaves no fresh folder where the CLI does not start', async () => {
    const prepare = await machine({ claude: await script('exit 3') })
    await expect(prepare(offer(1), MARKER, never)).rejects.toThrow('exit code 3')
    expect(await left()).toEqual(NOTHING)
    expect(await readdir(join(dir, 'runs'))).toEqual([])
  })

  it('leaves no process and no fresh folder where something fails after the CLI has started', async () => {
    let isBroken = true
    // The first thing that is asked of the pool's clock is when the new session was opened, by a CLI that is ready.
    const now = () => {
      if (!isBroken) return systemClock.now()
      isBroken = false
      throw new Error('there is no time')
    }
    const prepare = await machine({ clock: { ...systemClock, now } })
    await expect(prepare(offer(1), MARKER, never)).rejects.toThrow('there is no time')
    expect(await left()).toMatchObject({ folder: false, processes: [] })
    await until('what was made for the CLI to be gone', async () => (await readdir(join(dir, 'runs'))).length === 0 && !inUse.has(SESSION))
    expect(await left()).toEqual(NOTHING)
  })

  /** A CLI that puts a loop of links in the place of a folder, and fails: nothing in there can be taken away any more. */
  const breaking = (folder: string) => script(`mv '${folder}' '${folder}.away'`, `ln -s '${folder}' '${folder}'`, 'exit 3')
  /** Codes of the errors that are logged. */
  const logOf = (codes: unknown[]) => (_message: string, { err }: Record<string, unknown>) => void codes.push((err as NodeJS.ErrnoException | undefined)?.code)

  it.each([
    ['its fresh folder', 'root'],
    ['what was made for its CLI', 'runs'],
  ])('says why it failed, and not that %s could not be taken away', async (_what, broken) => {
    const root = join(dir, 'root')
    await mkdir(root)
    const codes: unknown[] = []
    const prepare = await machine({ roots: [root], claude: await breaking(join(dir, broken)), log: logOf(codes) })
    await expect(prepare(offer(1), MARKER, never)).rejects.toThrow('exit code 3')
    expect(codes).toContain('ELOOP')
  })

  it('says why a spare failed, and not that its fresh folder could not be taken away', async () => {
    const root = join(dir, 'root')
    await mkdir(root)
    const codes: unknown[] = []
    const spare = await machineOf({ roots: [root], claude: await breaking(root), log: logOf(codes) })
    const spares = new Spares(spare, new SpawnQueue())
    const recipe: Recipe = { spec: offer(1).spec, funds: { kind: 'gateway', env: {} }, servers: { entries: {}, reads: [] }, dirs: [], trust: undefined }
    for (let session = 0; session < 2; session++) spares.learn(recipe, 'key', { cwd: root, created: false })
    await until('the spare to be given up', () => codes.includes('cli'))
    expect(codes).toContain('ELOOP')
  })
})
