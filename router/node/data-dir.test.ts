import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { defaultDataDir, loadKeys, lockDir, makePrivateDir, readClientFile, writeClientFile } from './data-dir.ts'

let dir = ''
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'runyard-data-'))
})
afterEach(() => rm(dir, { recursive: true, force: true }))
const mode = async (path: string) => (await stat(path)).mode & 0o777

/** A process of somebody else, for as long as `work` takes; then its pid is nobody's. */
async function withProcess<T>(work: (pid: number) => Promise<T>): Promise<T> {
  const child = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1e6)'], { stdio: 'ignore' })
  await once(child, 'spawn')
  try {
    return await work(child.pid!)
  } finally {
    child.kill('SIGKILL')
    await once(child, 'exit')
  }
}

describe('the data directory', () => {
  it('is under the state home, wherever that is', () => {
    expect(defaultDataDir({ XDG_STATE_HOME: '/state', HOME: '/home/x' })).toBe('/state/runyard')
    expect(defaultDataDir({ HOME: '/home/x' })).toBe('/home/x/.local/state/runyard')
  })

  it('is made with its parents and is private; one that is there keeps its mode, and others must not be able to write it', async () => {
    const path = join(dir, 'a', 'b')
    await makePrivateDir(path)
    expect(await mode(path)).toBe(0o700)
    const open = join(dir, 'open')
    await mkdir(open, { mode: 0o755 })
    await makePrivateDir(open)
    expect(await mode(open)).toBe(0o755)
    const shared = join(dir, 'shared')
    await mkdir(shared)
    await chmod(shared, 0o1777)
    await expect(makePrivateDir(shared)).rejects.toThrow('can be written by other users (mode 1777)')
    expect(await mode(shared)).toBe(0o777)
  })
})

describe('the signing key', () => {
  it('is made once, is private, and is the same from then on', async () => {
    const first = await loadKeys(dir)
    const second = await loadKeys(dir)
    expect(second.issuer).toBe(first.issuer)
    expect(second.jwks).toEqual(first.jwks)
    expect(await mode(join(dir, 'signing-key.json'))).toBe(0o600)
    expect(await readdir(dir)).toEqual(['signing-key.json'])
  })

  it('is the same for all who start at once', async () => {
    const all = await Promise.all(Array.from({ length: 8 }, () => loadKeys(dir)))
    expect(new Set(all.map((keys) => keys.issuer)).size).toBe(1)
    expect(await readdir(dir)).toEqual(['signing-key.json'])
  })

  it.each([
    ['empty', ''],
    ['no JSON', '{'],
    ['no key', '{"issuer":"urn:uuid:1","jwk":{"kty":"oct","k":"AAAA"}}'],
    ['without an issuer', '{"jwk":{}}'],
  ])('that is %s is not replaced in silence: the message says what to do', async (_what, text) => {
    const path = join(dir, 'signing-key.json')
    await writeFile(path, text)
    await expect(loadKeys(dir)).rejects.toThrow(`${path} is damaged; move it away to make a new key`)
    expect(await readFile(path, 'utf8')).toBe(text)
  })
})

describe('what a client on this machine needs', () => {
  const file = { url: 'http://127.0.0.1:8787', token: 'a', admin_token: 'b' }

  it('is private, and replaced whole at each start', async () => {
    await writeFile(join(dir, 'client.json'), 'old', { mode: 0o644 })
    await writeClientFile(dir, file)
    expect(await readClientFile(dir)).toEqual(file)
    expect(await mode(join(dir, 'client.json'))).toBe(0o600)
    expect(await readdir(dir)).toEqual(['client.json'])
  })

  it('is nothing when there is none, or none that can be read', async () => {
    expect(await readClientFile(dir)).toBeUndefined()
    await writeFile(join(dir, 'client.json'), '{"url":"x"}')
    expect(await readClientFile(dir)).toBeUndefined()
  })
})

describe('the lock of a data directory', () => {
  const lock = () => lockDir(dir, 'router')
  const path = () => join(dir, 'router.lock')
  const owner = async () => Number.parseInt(await readFile(path(), 'utf8'), 10)

  it('names its owner, and is gone when it is given back', async () => {
    const unlock = await lock()
    expect(await owner()).toBe(process.pid)
    expect(await mode(path())).toBe(0o600)
    await unlock()
    expect(await readdir(dir)).toEqual([])
  })

  it('keeps a second router out, and says which process is the first', async () => {
    await withProcess(async (pid) => {
      await writeFile(path(), String(pid))
      await expect(lock()).rejects.toThrow(`${dir} is in use by process ${pid}; stop it, or name another --data-dir`)
    })
  })

  it('is taken over when its owner is gone', async () => {
    await writeFile(path(), String(await withProcess((pid) => Promise.resolve(pid))))
    await lock()
    expect(await owner()).toBe(process.pid)
  })

  it.each(['', 'nonsense', '-1', '0'])('is taken over when it names nobody (%j)', async (text) => {
    await writeFile(path(), text)
    await lock()
    expect(await owner()).toBe(process.pid)
  })

  it('is taken over from a process that had the same pid, as in a container', async () => {
    await writeFile(path(), `${process.pid} 1`)
    await lock()
    expect(await owner()).toBe(process.pid)
  })

  it('is taken over when its number belongs to another process by now', async () => {
    await withProcess(async (pid) => {
      await writeFile(path(), `${pid} 1`)
      await lock()
      expect(await owner()).toBe(process.pid)
    })
  })

  it('leaves no other file beside it', async () => {
    const unlock = await lock()
    expect(await readdir(dir)).toEqual(['router.lock'])
    await unlock()
  })

  it('is of one name only', async () => {
    const unlocks = await Promise.all([lock(), lockDir(dir, 'runner')])
    expect(await readdir(dir)).toHaveLength(2)
    for (const unlock of unlocks) await unlock()
  })
})
