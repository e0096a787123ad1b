import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { lockWrites } from '../../test/kit/lock.ts'
import { Connection, PATIENCE_MS } from './connection.ts'

let dir: string
let path: string
let connection: Connection
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'runyard-connection-'))
  path = join(dir, 'test.db')
  connection = new Connection(path)
  await connection.configure()
  await connection.execute('CREATE TABLE t (id INTEGER PRIMARY KEY, bytes BLOB)')
})
afterEach(async () => {
  connection.close()
  await rm(dir, { recursive: true, force: true })
})

const insert = (size = 1) => ({ sql: 'INSERT INTO t (bytes) VALUES (?) RETURNING id', args: [new Uint8Array(size)] })
const count = async () => (await connection.execute('SELECT count(*) AS n FROM t')).rows[0]!['n']

describe('a lock that somebody else holds', () => {
  it('is waited for without blocking the event loop, and every statement takes effect once', async () => {
    const release = await lockWrites(path)
    const writes = [connection.execute(insert()), connection.batch([insert(), insert()]), connection.execute(insert()), connection.batch([insert()])]
    let longestMs = 0
    let last = performance.now()
    const beat = setInterval(() => {
      longestMs = Math.max(longestMs, performance.now() - last)
      last = performance.now()
    }, 1)
    expect(await count()).toBe(0)
    await new Promise((resolve) => setTimeout(resolve, 1_000))
    clearInterval(beat)
    await release()
    await Promise.all(writes)
    expect(await count()).toBe(5)
    // A wait inside SQLite would be as long as the lock, and the machine may be busy.
    expect(longestMs).toBeLessThan(500)
  })

  it('is reported as a fault that can be retried when it stays, and nothing of the statement is left', async () => {
    const release = await lockWrites(path)
    const since = performance.now()
    const outcomes = await Promise.allSettled([connection.execute(insert()), connection.batch([insert(), insert()])])
    expect(performance.now() - since).toBeLessThan(PATIENCE_MS + 1_000)
    for (const outcome of outcomes) expect(outcome).toMatchObject({ status: 'rejected', reason: { code: 'storage', status: 503, retryable: true, retryAfterS: 2 } })
    await release()
    expect(await count()).toBe(0)
  })

  it('leaves a connection that works as soon as it is released, and hardly a file descriptor', async () => {
    const descriptors = async () => (await readdir('/proc/self/fd')).length
    const before = await descriptors()
    const release = await lockWrites(path)
    for (let i = 0; i < 2; i++) await expect(connection.execute(insert())).rejects.toMatchObject({ code: 'storage' })
    await release()
    const since = performance.now()
    await connection.batch([insert()])
    expect(performance.now() - since).toBeLessThan(1_000)
    expect(await count()).toBe(1)
    expect((await descriptors()) - before).toBeLessThan(8)
  })
})

describe('a database that is full', () => {
  it('answers with the fault, keeps what it had, and takes writes again when there is room', async () => {
    const { rows } = await connection.execute('PRAGMA page_count')
    await connection.batch([`PRAGMA max_page_count = ${Number(rows[0]!['page_count']) + 4}`])
    await connection.batch([insert()])
    await expect(connection.execute(insert(100_000))).rejects.toMatchObject({ code: 'storage' })
    await expect(connection.batch([insert(), insert(100_000)])).rejects.toMatchObject({ code: 'storage' })
    expect(await count()).toBe(1)
    await connection.batch(['PRAGMA max_page_count = 1000000'])
    await connection.batch([insert(), insert(100_000)])
    expect(await count()).toBe(3)
  })
})

describe('an error of the statement', () => {
  it('is not storage trouble', async () => {
    await connection.execute('INSERT INTO t (id) VALUES (7)')
    await expect(connection.execute('INSERT INTO t (id) VALUES (7)')).rejects.toMatchObject({ code: 'SQLITE_CONSTRAINT' })
    await expect(connection.batch(['INSERT INTO nowhere VALUES (1)'])).rejects.toMatchObject({ code: 'SQLITE_ERROR' })
  })
})

describe('a closed connection', () => {
  it('says so at once', async () => {
    const release = await lockWrites(path)
    const waiting = connection.execute(insert())
    connection.close()
    await expect(waiting).rejects.toMatchObject({ code: 'storage' })
    await expect(connection.execute(insert())).rejects.toMatchObject({ code: 'storage' })
    await release()
  })
})
