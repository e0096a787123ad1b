import { existsSync } from 'node:fs'
import { mkdtemp, readdir, readFile, realpath, rm } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { text } from 'node:stream/consumers'
import { describe, expect, it } from 'vitest'
import { until } from '../../test/kit/wait.ts'
import { listenNearby, MAX_PATH_BYTES } from './spawner-socket.ts'
import { Spawner } from './spawner.ts'

const spawner = new Spawner()
const cwd = await realpath(tmpdir())
const logged: string[] = []
const options = { cwd, env: {}, log: (message: string) => void logged.push(message) }
const sh = (script: string, env: Record<string, string> = {}, by = spawner) => by.spawn('/bin/sh', ['-c', script], { ...options, env })
const parentOf = async (pid: number) => Number(/^PPid:\t(\d+)$/m.exec(await readFile(`/proc/${pid}/status`, 'utf8'))?.[1])
const isSpawner = async (pid: number) => (await readFile(`/proc/${pid}/cmdline`, 'latin1').catch(() => '')).includes('spawner-process.mjs')

/** With a folder of its own for temporary files. */
async function inTmp(then: (own: string) => Promise<void>, name = 'runyard-tmp-'): Promise<void> {
  const { TMPDIR } = process.env
  const own = await mkdtemp(join(cwd, name))
  process.env['TMPDIR'] = own
  try {
    await then(own)
  } finally {
    if (TMPDIR === undefined) delete process.env['TMPDIR']
    else process.env['TMPDIR'] = TMPDIR
    await rm(own, { recursive: true })
  }
}

/** While no other one of this program can be started. */
async function withoutNode(then: () => Promise<void>): Promise<void> {
  const { execPath } = process
  process.execPath = '/nowhere/node'
  try {
    await then()
  } finally {
    process.execPath = execPath
  }
}

async function says(script: string, by: Spawner): Promise<string> {
  const child = await sh(script, {}, by)
  const [said] = await Promise.all([text(child.stdout), child.exited])
  return said
}

describe('a process that was spawned from beside', () => {
  it('has its pipes, its folder and the environment that it was given, and nothing else', async () => {
    const child = await sh('pwd; env | grep -v -e ^PWD= -e ^_= -e ^SHLVL=; cat; echo done >&2; exit 3', { ONLY: 'this' })
    child.stdin.end('from stdin\n')
    expect(await Promise.all([text(child.stdout), text(child.stderr), child.exited])).toEqual([
      `${cwd}\nONLY=this\nfrom stdin\n`,
      'done\n',
      { code: 3, signal: null },
    ])
  })

  it('is not our child, and leads its own group', async () => {
    const child = await sh('exec cat')
    expect(await parentOf(child.pid)).not.toBe(process.pid)
    process.kill(-child.pid, 'SIGTERM')
    expect(await child.exited).toEqual({ code: null, signal: 'SIGTERM' })
  })

  it('gets its pipes blocking, as a shell would give them', async () => {
    const flags = async (fd: number) => {
      const child = await sh(`grep ^flags: /proc/self/fdinfo/${fd} ${fd === 1 ? '' : '>&1'}`)
      return Number.parseInt((await text(child.stdout)).split(/\s+/)[1]!, 8)
    }
    for (const fd of [0, 1, 2]) expect((await flags(fd)) & 0o4000, `fd ${fd}`).toBe(0)
  })

  it('brings every byte, also those printed before anybody reads', async () => {
    const many = await Promise.all(Array.from({ length: 8 }, (_, n) => sh(`printf early; head -c 3000000 /dev/zero | tr '\\0' ${n}`)))
    await Promise.all(many.map((child, n) => text(child.stdout).then((all) => expect(all === `early${String(n).repeat(3_000_000)}`).toBe(true))))
    expect(await Promise.all(many.map(({ exited }) => exited))).toEqual(many.map(() => ({ code: 0, signal: null })))
  })

  it('that cannot be spawned is an error with its code', async () => {
    await expect(spawner.spawn('/nowhere/claude', [], options)).rejects.toMatchObject({ code: 'ENOENT' })
    await expect(spawner.spawn('/bin/sh', [], { ...options, cwd: '/nowhere' })).rejects.toMatchObject({ code: 'ENOENT' })
    await expect(spawner.spawn(cwd, [], options)).rejects.toMatchObject({ code: 'EACCES' })
  })

  it('is killed when the helper dies, and the next one has a new helper', async () => {
    const own = new Spawner()
    const child = await sh('exec cat', {}, own)
    const helper = await parentOf(child.pid)
    expect(await isSpawner(helper)).toBe(true)
    process.kill(helper, 'SIGKILL')
    expect(await child.exited).toEqual({ code: null, signal: 'SIGKILL' })
    await until('it to be gone', () => !existsSync(`/proc/${child.pid}`))
    const next = await sh('echo again', {}, own)
    expect(await text(next.stdout)).toBe('again\n')
    expect(await next.exited).toEqual({ code: 0, signal: null })
  })

  it('outlives no signal that is meant for all processes of a service, nor does one end its helper', async () => {
    const child = await sh('exec cat')
    const helper = await parentOf(child.pid)
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.kill(helper, signal)
    child.stdin.end('still here')
    expect(await text(child.stdout)).toBe('still here')
    expect(await isSpawner(helper)).toBe(true)
  })

  it('takes no pipe from somebody who does not know the secret', () =>
    inTmp(async (own) => {
      const child = await sh('exec cat', {}, new Spawner())
      const [dir] = await readdir(own)
      const stranger = connect(join(own, dir!, 'pipes'))
      stranger.write(`${'0'.repeat(40)}1`)
      const closed = new Promise((resolve) => stranger.once('close', resolve))
      stranger.resume()
      await closed
      const helper = await parentOf(child.pid)
      child.stdin.end()
      expect(await child.exited).toEqual({ code: 0, signal: null })
      process.kill(helper, 'SIGKILL')
      await until('nothing to be left of it', async () => (await readdir(own)).length === 0)
    }))

  it('is there with its last words when it ends at once, every time', async () => {
    const many = await Promise.all(Array.from({ length: 40 }, (_, n) => sh(`echo ${n}; exit ${n}`)))
    expect(await Promise.all(many.map(({ stdout }) => text(stdout)))).toEqual(many.map((_, n) => `${n}\n`))
    expect(await Promise.all(many.map(({ exited }) => exited))).toEqual(many.map((_, n) => ({ code: n, signal: null })))
  })
})

describe('the helper', () => {
  it('is replaced when its folder was taken away, and ends after the last of its own', () =>
    inTmp(async (own) => {
      const by = new Spawner()
      const child = await sh('exec cat', {}, by)
      const helper = await parentOf(child.pid)
      for (const dir of await readdir(own)) await rm(join(own, dir), { recursive: true })
      expect(await Promise.all(Array.from({ length: 20 }, (_, n) => says(`echo ${n}`, by)))).toEqual(Array.from({ length: 20 }, (_, n) => `${n}\n`))
      const next = await sh('exec cat', {}, by)
      expect(await parentOf(next.pid)).not.toBe(helper)
      next.stdin.end()
      await next.exited
      child.stdin.end('not forgotten')
      expect(await text(child.stdout)).toBe('not forgotten')
      expect(await child.exited).toEqual({ code: 0, signal: null })
      await until('the old one to end', async () => !(await isSpawner(helper)))
      expect(await readdir(own)).toHaveLength(1)
    }))

  it('is found by its runner alone where the path of the temporary files is too long for a socket', () =>
    inTmp(async (own) => {
      const two = [new Spawner(), new Spawner()]
      for (const by of two) expect(await says('echo found', by)).toBe('found\n')
      expect(await readdir(own)).toEqual([])
      expect((await readdir(cwd)).filter((name) => name.startsWith(basename(own)))).toEqual([basename(own)])
      expect(logged).toEqual([])
    }, `runyard-${'x'.repeat(MAX_PATH_BYTES)}-`))

  it('is in a folder of its own up to the longest path that a socket can have', async () => {
    const rest = '/runyard-spawner-XXXXXX/pipes'.length
    const fits = await mkdtemp(join(cwd, 'x'.repeat(MAX_PATH_BYTES - rest - cwd.length - 1 - 6)))
    const long = await mkdtemp(join(cwd, 'x'.repeat(MAX_PATH_BYTES - rest - cwd.length - 6)))
    try {
      const { server, path } = await listenNearby([fits])
      expect(Buffer.byteLength(path)).toBe(MAX_PATH_BYTES)
      expect(await readdir(dirname(path))).toEqual(['pipes'])
      server.close()
      await expect(listenNearby([long])).rejects.toThrow(`would have ${MAX_PATH_BYTES + 1} bytes, ${MAX_PATH_BYTES} are possible`)
    } finally {
      for (const dir of [fits, long]) await rm(dir, { recursive: true })
    }
  })

  it('is done without where there can be none, which is said once, and asked for again', async () => {
    const by = new Spawner()
    await withoutNode(async () => {
      await expect(by.ready()).rejects.toThrow('the process that spawns CLIs does not start: spawn /nowhere/node ENOENT')
      const child = await sh('read line; echo $line; echo done >&2; exit 3', {}, by)
      expect(await parentOf(child.pid)).toBe(process.pid)
      child.stdin.end('by itself\n')
      expect(await Promise.all([text(child.stdout), text(child.stderr), child.exited])).toEqual(['by itself\n', 'done\n', { code: 3, signal: null }])
      expect(await says('echo again', by)).toBe('again\n')
      await expect(by.spawn('/nowhere/claude', [], options)).rejects.toMatchObject({ code: 'ENOENT' })
    })
    expect(logged.splice(0)).toEqual(['CLIs are spawned by the runner itself, whose streams wait for each of them'])
    const child = await sh('exec cat', {}, by)
    expect(await isSpawner(await parentOf(child.pid))).toBe(true)
    child.stdin.end()
    await child.exited
  })

  it('is told the environment of a CLI and its secret by no way that others can read, and is of no run', async () => {
    const child = await sh('exec cat', { RUNYARD_PROCESS: 'marker', KEY: 'of-the-cli' })
    const helper = await parentOf(child.pid)
    const [argv, environ] = await Promise.all(['cmdline', 'environ'].map((name) => readFile(`/proc/${helper}/${name}`, 'latin1')))
    expect(argv).toMatch(/spawner-process\.mjs\0[^\0]*runyard-spawner-\w{6}\/pipes\0$/)
    expect(environ!.split('\0').filter((entry) => entry && !entry.startsWith('NODE_CHANNEL_'))).toEqual([])
    child.stdin.end()
    await child.exited
  })
})
