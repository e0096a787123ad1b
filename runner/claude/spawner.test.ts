import { existsSync } from 'node:fs'
import { mkdtemp, readdir, readFile, realpath, rm } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { describe, expect, it } from 'vitest'
import { until } from '../../test/kit/wait.ts'
import { Spawner } from './spawner.ts'

const spawner = new Spawner()
const cwd = await realpath(tmpdir())
const sh = (script: string, env: Record<string, string> = {}, by = spawner) => by.spawn('/bin/sh', ['-c', script], { cwd, env })
const parentOf = async (pid: number) => Number(/^PPid:\t(\d+)$/m.exec(await readFile(`/proc/${pid}/status`, 'utf8'))?.[1])
const isSpawner = async (pid: number) => (await readFile(`/proc/${pid}/cmdline`, 'latin1').catch(() => '')).includes('spawner-process.mjs')

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
    await expect(spawner.spawn('/nowhere/claude', [], { cwd, env: {} })).rejects.toMatchObject({ code: 'ENOENT' })
    await expect(spawner.spawn('/bin/sh', [], { cwd: '/nowhere', env: {} })).rejects.toMatchObject({ code: 'ENOENT' })
    await expect(spawner.spawn(cwd, [], { cwd, env: {} })).rejects.toMatchObject({ code: 'EACCES' })
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

  it('takes no pipe from somebody who does not know the secret', async () => {
    const { TMPDIR } = process.env
    const own = await mkdtemp(join(tmpdir(), 'runyard-strangers-'))
    process.env['TMPDIR'] = own
    try {
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
    } finally {
      if (TMPDIR === undefined) delete process.env['TMPDIR']
      else process.env['TMPDIR'] = TMPDIR
      await rm(own, { recursive: true })
    }
  })

  it('is there with its last words when it ends at once, every time', async () => {
    const many = await Promise.all(Array.from({ length: 40 }, (_, n) => sh(`echo ${n}; exit ${n}`)))
    expect(await Promise.all(many.map(({ stdout }) => text(stdout)))).toEqual(many.map((_, n) => `${n}\n`))
    expect(await Promise.all(many.map(({ exited }) => exited))).toEqual(many.map((_, n) => ({ code: n, signal: null })))
  })
})
