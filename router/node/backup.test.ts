import { createClient } from '@libsql/client'
import { sql } from 'drizzle-orm'
import { mkdir, mkdtemp, readdir, readFile, realpath, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { noSmallDisk, smallDisk } from '../../test/kit/small-disk.ts'
import { backup, BackupError, type BackupOptions } from './backup.ts'
import { openDatabase, proveCommit, type Database } from './database.ts'

let dir = ''
let dataDir = ''
let database: Database
beforeEach(async () => {
  dir = await realpath(await mkdtemp(join(tmpdir(), 'runyard-backup-')))
  dataDir = join(dir, 'data')
  await mkdir(dataDir)
  database = await openDatabase(join(dataDir, 'runyard.db'))
  await proveCommit(database, 1)
  for (const name of ['signing-key.json', 'master-key.json']) await writeFile(join(dataDir, name), `{"of":"${name}"}`, { mode: 0o600 })
})
afterEach(async () => {
  await database.close()
  await rm(dir, { recursive: true, force: true })
})

const copy = (more: Partial<BackupOptions> = {}) => backup({ dataDir, file: join(dir, 'copy.db'), withKeys: false, ...more })
async function problem(more: Partial<BackupOptions> = {}): Promise<[string, string]> {
  const error: unknown = await copy(more).catch((thrown: unknown) => thrown)
  if (!(error instanceof BackupError)) throw new Error('it went well, or wrong in another way', { cause: error })
  return [error.problem, error.message]
}
async function rowsIn(file: string): Promise<unknown> {
  const client = createClient({ url: `file:${file}` })
  try {
    return (await client.execute('SELECT id, at FROM probes')).rows.map((row) => ({ ...row }))
  } finally {
    client.close()
  }
}

describe('a backup', () => {
  it('has what was committed, is its owner\'s only, and leaves nothing else behind', async () => {
    const steps: string[] = []
    const made = await copy({ step: (what) => steps.push(what) })
    expect(await rowsIn(join(dir, 'copy.db'))).toEqual([{ id: 1, at: 1 }])
    const { size, mode } = await stat(join(dir, 'copy.db'))
    expect([made.bytes, mode & 0o777, made.keys, steps]).toEqual([size, 0o600, [], ['copying', 'checking']])
    expect(made.schema).toBeGreaterThan(Date.parse('2026-01-01'))
    expect((await readdir(dir)).toSorted()).toEqual(['copy.db', 'data'])
  })

  it('is of one moment, and the router writes on', async () => {
    await copy()
    await proveCommit(database, 2)
    expect(await rowsIn(join(dir, 'copy.db'))).toEqual([{ id: 1, at: 1 }])
    await copy({ file: join(dir, 'second.db') })
    expect(await rowsIn(join(dir, 'second.db'))).toEqual([{ id: 1, at: 2 }])
  })

  it('is a database that a router can open', async () => {
    await copy()
    const restored = await openDatabase(join(dir, 'copy.db'))
    await proveCommit(restored, 3)
    await restored.close()
    expect(await rowsIn(join(dir, 'copy.db'))).toEqual([{ id: 1, at: 3 }])
  })

  it('has the keys beside it only when they are asked for', async () => {
    const { keys } = await copy({ withKeys: true })
    expect(keys).toEqual(['signing-key.json', 'master-key.json'].map((name) => join(dir, `copy.db.${name}`)))
    expect(await readFile(keys[1]!, 'utf8')).toBe('{"of":"master-key.json"}')
    expect((await stat(keys[0]!)).mode & 0o777).toBe(0o600)
  })
})

describe('a backup that cannot be made', () => {
  it('overwrites nothing, neither the file nor a key', async () => {
    const file = join(dir, 'copy.db')
    await writeFile(file, 'precious')
    expect(await problem()).toEqual(['target', `${file} is there already; nothing is overwritten`])
    expect(await readFile(file, 'utf8')).toBe('precious')
    await rm(file)
    await symlink('/nowhere', file)
    expect((await problem())[0]).toBe('target')
    await rm(file)
    await writeFile(`${file}.master-key.json`, 'precious')
    expect(await problem({ withKeys: true })).toEqual(['target', `${file}.master-key.json is there already; nothing is overwritten`])
    expect((await readdir(dir)).toSorted()).toEqual(['copy.db.master-key.json', 'data'])
    expect(await readFile(`${file}.master-key.json`, 'utf8')).toBe('precious')
  })

  it('says what is wrong with the place', async () => {
    expect(await problem({ file: dir })).toEqual(['target', `${dir} is there already and is a folder; nothing is overwritten`])
    expect(await problem({ file: join(dir, 'nowhere/copy.db') })).toEqual(['target', `${join(dir, 'nowhere')} is not a folder`])
    const inFile = join(dataDir, 'signing-key.json/copy.db')
    expect(await problem({ file: inFile })).toEqual(['target', `${join(dataDir, 'signing-key.json')} is not a folder`])
  })

  it('says what is wrong with the database', async () => {
    expect(await problem({ dataDir: join(dir, 'other') })).toEqual(['no_database', `there is no database in ${join(dir, 'other')}: runyard.db is missing`])
    const odd = join(dir, 'odd')
    await mkdir(odd)
    await writeFile(join(odd, 'runyard.db'), 'x'.repeat(8_192))
    expect(await problem({ dataDir: odd })).toEqual(['damaged', `${join(odd, 'runyard.db')} is damaged`])
    await rm(join(odd, 'runyard.db'))
    const empty = createClient({ url: `file:${join(odd, 'runyard.db')}` })
    await empty.execute('CREATE TABLE other (id)')
    empty.close()
    expect((await problem({ dataDir: odd }))[1]).toContain('is not a database of a router')
    expect((await readdir(dir)).toSorted()).toEqual(['data', 'odd'])
  })

  it('is none when a key is missing', async () => {
    await rm(join(dataDir, 'master-key.json'))
    expect(await problem({ withKeys: true })).toEqual(['no_database', `${join(dataDir, 'master-key.json')} is missing`])
    expect(await readdir(dir)).toEqual(['data'])
  })

  it.skipIf(noSmallDisk !== '')(`leaves nothing on a disk that is full${noSmallDisk}`, async () => {
    const disk = smallDisk(4)
    try {
      await database.db.run(sql`CREATE TABLE big (bytes blob)`)
      await database.db.run(sql`INSERT INTO big VALUES (randomblob(6000000))`)
      const [what, message] = await problem({ file: join(disk.dir, 'copy.db') })
      expect([what, message]).toEqual(['disk_full', expect.stringMatching(/needs \d+\.\d MiB, and only \d+\.\d MiB are free there/)])
      // What it needs is an estimate: a disk may also fill up on the way.
      await database.db.run(sql`DELETE FROM big`)
      const step = (now: string) => now === 'copying' && disk.fill(100_000)
      expect((await problem({ file: join(disk.dir, 'copy.db'), step }))[0]).toBe('disk_full')
      expect(await readdir(disk.dir)).toEqual(['ballast'])
    } finally {
      disk.unmount()
    }
  })
})
