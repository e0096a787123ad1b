import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { pathToFileURL } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { WebSocket } from 'ws'
import { until } from '../test/kit/wait.ts'
import { bundleWorker, ROOT, WRANGLER } from './bundle.ts'
import { startWorkerd, type RunningWorkerd, type WorkerdOptions } from './workerd.ts'

let dir: string
let bundle: string
const running: RunningWorkerd[] = []

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'runyard-edge-'))
  ;({ path: bundle } = await bundleWorker(join(ROOT, 'edge/fixtures/worker.ts'), join(dir, 'fixture.js')))
})
afterAll(async () => {
  await Promise.all(running.map((w) => w.kill()))
  await rm(dir, { recursive: true, force: true })
})

async function start(name: string, options: Partial<WorkerdOptions> = {}): Promise<RunningWorkerd> {
  const started = await startWorkerd({ bundle, wrangler: WRANGLER, dir: join(dir, name), unsafe: true, ...options })
  running.push(started)
  return started
}

async function get(worker: RunningWorkerd, path: string): Promise<Record<string, unknown>> {
  const response = await fetch(`${worker.url}${path}`)
  expect(response.status, path).toBe(200)
  return (await response.json()) as Record<string, unknown>
}

interface Open {
  readonly echoed: (text: string) => Promise<string>
  readonly closed: Promise<number>
}

async function open(worker: RunningWorkerd, name: string): Promise<Open> {
  const socket = new WebSocket(`${worker.url.replace('http', 'ws')}/object?name=${name}`)
  await new Promise((resolve, reject) => socket.once('open', resolve).once('error', reject))
  return {
    closed: new Promise((resolve) => socket.once('close', resolve)),
    echoed: (text) =>
      new Promise((resolve) => {
        socket.once('message', (data: Buffer) => resolve(data.toString()))
        socket.send(text)
      }),
  }
}

const isAlive = (pid: number) => existsSync(`/proc/${pid}`)

describe('a Worker in workerd', () => {
  it('serves, remembers in its objects and in D1, and has lost nothing after it was killed', async () => {
    const first = await start('killed')
    expect(await get(first, '/healthz')).toEqual({ status: 'ok' })
    for (let n = 1; n <= 5; n++) {
      expect(await get(first, '/object?name=a')).toEqual({ onDisk: n, inMemory: n })
      expect(await get(first, '/entries?what=x')).toEqual({ n })
    }
    expect(await get(first, '/object?name=b')).toEqual({ onDisk: 1, inMemory: 1 })
    expect(await first.kill()).toBe(137)

    const second = await first.restart()
    running.push(second)
    expect(second.url).toBe(first.url)
    expect(await get(second, '/object?name=a')).toEqual({ onDisk: 6, inMemory: 1 })
    expect(await get(second, '/entries?what=x')).toEqual({ n: 6 })
    expect(await second.stop()).toBe(0)
  })

  it('is stopped within its grace although somebody holds a socket open', async () => {
    const worker = await start('stopped')
    const { closed } = await open(worker, 'a')
    const asked = performance.now()
    expect(await worker.stop(200)).toBe(137)
    expect(performance.now() - asked).toBeLessThan(2_000)
    expect(await closed).toBe(1006)
  })

  it('lets a test throw an object out of memory, with its socket or without', async () => {
    const worker = await start('evicted')
    await get(worker, '/object?name=a')
    const held = await open(worker, 'a')
    await worker.evict('RunnerDO', 'a', 'hibernate')
    expect(await held.echoed('still there')).toBe('still there')
    expect(await get(worker, '/object?name=a')).toEqual({ onDisk: 2, inMemory: 1 })

    await worker.evict('RunnerDO', 'a', 'close')
    expect(await held.closed).toBe(1006)
    expect(await get(worker, '/object?name=a')).toEqual({ onDisk: 3, inMemory: 1 })
    // Nothing to do for one that is out already.
    await worker.evict('RunnerDO', 'nobody', 'close')
  })

  it('lets a test break all objects in mid-use', async () => {
    const worker = await start('aborted')
    await get(worker, '/object?name=a')
    const { closed } = await open(worker, 'a')
    await worker.abort()
    expect(await closed).toBe(1006)
    expect(await get(worker, '/object?name=a')).toEqual({ onDisk: 2, inMemory: 1 })
  })

  it('runs the cron handler when told to, and nothing else without `unsafe`', async () => {
    const worker = await start('users', { unsafe: false })
    await worker.cron('*/15 * * * *')
    await worker.cron('*/15 * * * *')
    expect(await get(worker, `/entries?what=${encodeURIComponent('*/15 * * * *')}`)).toEqual({ n: 3 })
    await expect(worker.evict('RunnerDO', 'a', 'close')).rejects.toThrow('404')
    await expect(worker.abort()).rejects.toThrow('404')
  })

  it('keeps what it stores and what it was told from other users of the machine', async () => {
    const worker = await start('private', { vars: { SIGNING_KEY: 'a secret' } })
    expect(await get(worker, '/vars')).toMatchObject({ SIGNING_KEY: 'a secret', TIMEOUT_S: '600' })
    const mode = async (path: string) => (await stat(join(dir, 'private', path))).mode & 0o777
    const folders = (await readdir(join(dir, 'private'), { withFileTypes: true })).filter((entry) => entry.isDirectory())
    for (const path of ['', ...folders.map((entry) => entry.name)]) expect(await mode(path), path).toBe(0o700)
    expect(await mode('workerd/config.capnp')).toBe(0o600)
  })

  it('reaches nothing of this machine but the database that it was given', async () => {
    const server = createServer((_, response) => response.end())
    const other = createServer((_, response) => response.end())
    await Promise.all([server, other].map((s, i) => new Promise<void>((resolve) => s.listen(0, `127.0.0.${i + 1}`, resolve))))
    const url = (s: typeof server) => `http://${(s.address() as AddressInfo).address}:${(s.address() as AddressInfo).port}`
    const status = async (worker: RunningWorkerd, to: string) =>
      (await fetch(`${worker.url}/reach?url=${encodeURIComponent(to)}`)).status
    try {
      expect(await status(await start('alone', { unsafe: false }), url(server))).toBe(502)
      const worker = await start('with-database', { unsafe: false, vars: { LIBSQL_URL: url(server) } })
      expect(await status(worker, url(server))).toBe(200)
      expect(await status(worker, url(other))).toBe(502)
      expect(await get(worker, '/entries?what=x')).toEqual({})
    } finally {
      server.close()
      other.close()
    }
  })

  it('calls webhooks over a network that does not lead to this machine, whatever the Worker itself may reach', async () => {
    const server = createServer((_, response) => response.end())
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const { port } = server.address() as AddressInfo
    const status = async (worker: RunningWorkerd, by: string, host: string) =>
      (await fetch(`${worker.url}/reach?by=${by}&url=${encodeURIComponent(`http://${host}:${port}/`)}`)).status
    try {
      const worker = await start('webhooks', { vars: { LIBSQL_URL: 'http://localhost:1' } })
      expect([await status(worker, '', '127.0.0.1'), await status(worker, 'WEBHOOKS_PRIVATE', '127.0.0.1')]).toEqual([200, 200])
      // `localhost` stands for every name that leads here.
      for (const host of ['127.0.0.1', 'localhost', '0.0.0.0', '[::ffff:127.0.0.1]', '[::1]']) {
        expect([host, await status(worker, 'WEBHOOKS_PUBLIC', host)]).toEqual([host, 502])
      }
    } finally {
      server.close()
    }
  })

  it('says what workerd said when it does not come up', async () => {
    // No random numbers at module level: a Worker that asks for one there cannot start.
    await writeFile(join(dir, 'broken.js'), 'crypto.randomUUID(); export default {}')
    const broken = start('broken', { bundle: join(dir, 'broken.js') })
    await expect(broken).rejects.toThrow(/ended with 1 before it listened[^]*global scope/)
    const first = await start('taken')
    await expect(start('taken-too', { port: first.port })).rejects.toThrow(/in use/)
  })

  it('shows why a request failed', async () => {
    const worker = await start('throws')
    expect((await fetch(`${worker.url}/throw`)).status).toBe(500)
    await until('the error in the log', () => worker.lines.some((line) => line.includes('thrown on purpose')))
  })
})

describe('a parent that dies', () => {
  it.each(['SIGKILL', 'SIGTERM', 'SIGINT'] as const)('by %s takes workerd with it', async (signal) => {
    const options: WorkerdOptions = { bundle, wrangler: WRANGLER, dir: join(dir, signal) }
    const script = `const { startWorkerd } = await import(${JSON.stringify(pathToFileURL(join(ROOT, 'dist/edge/workerd.js')))})
      process.stdout.write((await startWorkerd(${JSON.stringify(options)})).pid + '\\n')
      process.stdin.resume()`
    const parent = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['pipe', 'pipe', 'inherit'] })
    const pid = await new Promise<number>((resolve, reject) => {
      createInterface({ input: parent.stdout }).once('line', (line) => resolve(Number(line)))
      parent.once('exit', () => reject(new Error('the parent ended before it was asked to')))
    })
    expect(isAlive(pid)).toBe(true)
    parent.kill(signal)
    await until('the end of workerd', () => !isAlive(pid))
  })
})
