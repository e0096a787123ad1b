/**
 * A copy of the embedded database, of one moment, while a router may be writing to it: `VACUUM INTO`, which is a reader
 * like any other, and in WAL mode readers do not hold writers up. The copy is whole and checked before it has its name.
 *
 * Where to put it and what to say about it is the caller's.
 */
import { createClient, LibsqlError, type Client } from '@libsql/client'
import { randomUUID } from 'node:crypto'
import { link, lstat, open, readFile, rename, rm, stat, statfs, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { SIGNING_KEY_FILE } from './data-dir.ts'
import { MASTER_KEY_FILE } from './master-key.ts'

export const DATABASE_FILE = 'runyard.db'
/** What cannot be read or trusted without them: provider keys and webhooks, and tokens. */
const KEY_FILES = [SIGNING_KEY_FILE, MASTER_KEY_FILE] as const

/** The owner can do something about it. */
export class BackupError extends Error {
  override readonly name = 'BackupError'
  readonly problem: 'no_database' | 'damaged' | 'target' | 'disk_full'

  constructor(problem: BackupError['problem'], message: string, cause?: unknown) {
    super(message, cause === undefined ? {} : { cause })
    this.problem = problem
  }
}

export interface BackupOptions {
  readonly dataDir: string
  /** Must not be there. Its folder must. */
  readonly file: string
  /** Also copies the signing key and the master keys, to `<file>.signing-key.json` and `<file>.master-key.json`. */
  readonly withKeys: boolean
  /** What begins now, and how many bytes it is about. */
  step?(what: 'copying' | 'checking', bytes: number): void
}

export interface Backup {
  readonly bytes: number
  /** The newest migration that the database has had, in milliseconds since 1970. */
  readonly schema: number
  /** The files with keys, where they were asked for. */
  readonly keys: readonly string[]
}

/** Throws a `BackupError` with a sentence for the owner. Then there is nothing of it, and what was there is as it was. */
export async function backup(options: BackupOptions): Promise<Backup> {
  const { dataDir, file, withKeys } = options
  const source = join(dataDir, DATABASE_FILE)
  if (!(await isFile(source))) throw new BackupError('no_database', `there is no database in ${dataDir}: ${DATABASE_FILE} is missing`)
  const keys = withKeys ? KEY_FILES.map((name) => ({ from: join(dataDir, name), to: `${file}.${name}` })) : []
  for (const { from } of keys) if (!(await isFile(from))) throw new BackupError('no_database', `${from} is missing`)
  for (const path of [file, ...keys.map(({ to }) => to)]) await mustBeFree(path)

  const partial = `${file}.${randomUUID()}.partial`
  const begun: string[] = []
  try {
    const made = await copied({ source, partial, file, step: (what, bytes) => options.step?.(what, bytes) })
    for (const { from, to } of keys) {
      await writeFile(to, '', { mode: 0o600, flag: 'wx' })
      begun.push(to)
      await writeFile(to, await readFile(from), { flush: true })
    }
    await named(partial, file)
    return { ...made, keys: keys.map(({ to }) => to) }
  } catch (error) {
    for (const path of begun) await rm(path, { force: true })
    throw explained(error, source, file)
  } finally {
    for (const path of [partial, `${partial}-journal`, `${partial}-wal`, `${partial}-shm`]) await rm(path, { force: true })
  }
}

async function copied(parts: { source: string; partial: string; file: string; step: NonNullable<BackupOptions['step']> }) {
  const { source, partial, file, step } = parts
  // SQLite writes into an empty file that is there, so nobody else can read it at any moment.
  await writeFile(partial, '', { mode: 0o600, flag: 'wx' })
  const wanted = await using(source, async (client) => {
    const bytes = await sizeOf(client)
    const { bavail, bsize } = await statfs(dirname(partial))
    if (bavail * bsize < bytes) throw new BackupError('disk_full', `${file} needs ${mib(bytes)}, and only ${mib(bavail * bsize)} are free there`)
    step('copying', bytes)
    const schema = await schemaOf(client)
    if (schema.newest === 0) throw new BackupError('damaged', `${source} is not a database of a router`)
    await client.execute({ sql: 'VACUUM INTO ?', args: [partial] })
    return schema
  })
  const { size: bytes } = await stat(partial)
  step('checking', bytes)
  await using(partial, async (client) => {
    const { rows } = await client.execute('PRAGMA integrity_check')
    const said = rows.map((row) => row[0] as string)
    if (said.join() !== 'ok') throw new BackupError('damaged', `the copy is damaged: ${said[0] ?? 'nothing can be read'}`)
    if ((await schemaOf(client)).text !== wanted.text) throw new BackupError('damaged', 'the schema changed during the copy; try again')
  })
  await synced(partial)
  return { bytes, schema: wanted.newest }
}

async function using<T>(path: string, work: (client: Client) => Promise<T>): Promise<T> {
  const client = createClient({ url: `file:${path}`, concurrency: 1 })
  try {
    return await work(client)
  } finally {
    client.close()
  }
}

/** Bytes of the pages that are in use: what the copy will have. */
async function sizeOf(client: Client): Promise<number> {
  const value = async (pragma: string) => Number((await client.execute(`PRAGMA ${pragma}`)).rows[0]?.[0] ?? 0)
  return ((await value('page_count')) - (await value('freelist_count'))) * (await value('page_size'))
}

async function schemaOf(client: Client): Promise<{ text: string; newest: number }> {
  const { rows } = await client.execute(`SELECT type, name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%' ORDER BY type, name`)
  const isOurs = rows.some((row) => row['name'] === '__drizzle_migrations')
  const newest = isOurs ? (await client.execute('SELECT max(created_at) FROM __drizzle_migrations')).rows[0]?.[0] : 0
  return { text: JSON.stringify(rows.map((row) => [row['type'], row['name'], row['sql']])), newest: Number(newest ?? 0) }
}

/** Links, because a rename would replace a file that has come meanwhile; where there are none, looks once more. */
async function named(partial: string, file: string): Promise<void> {
  try {
    await link(partial, file)
  } catch (error) {
    if (!hasCode(error, 'EPERM', 'ENOTSUP', 'ENOSYS')) throw error
    await mustBeFree(file)
    await rename(partial, file)
  }
  // Some file systems have no such thing as the sync of a folder.
  await synced(dirname(file)).catch(() => undefined)
}

async function synced(path: string): Promise<void> {
  const handle = await open(path, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

async function mustBeFree(path: string): Promise<void> {
  const found = await lstat(path).catch((error: unknown) => {
    if (hasCode(error, 'ENOENT')) return undefined
    throw hasCode(error, 'ENOTDIR') ? new BackupError('target', `${dirname(path)} is not a folder`, error) : error
  })
  if (found) throw new BackupError('target', `${path} is there already${found.isDirectory() ? ' and is a folder' : ''}; nothing is overwritten`)
  if (!(await stat(dirname(path)).then((folder) => folder.isDirectory(), () => false))) {
    throw new BackupError('target', `${dirname(path)} is not a folder`)
  }
}

async function isFile(path: string): Promise<boolean> {
  return stat(path).then(
    (found) => found.isFile(),
    () => false,
  )
}

function explained(error: unknown, source: string, file: string): unknown {
  if (error instanceof BackupError) return error
  if (hasCode(error, 'EEXIST')) return new BackupError('target', `${file} is there already; nothing is overwritten`, error)
  if (hasCode(error, 'ENOSPC', 'EDQUOT', 'SQLITE_FULL')) return new BackupError('disk_full', `no space is left for ${file}`, error)
  if (hasCode(error, 'EACCES', 'EPERM', 'EROFS')) return new BackupError('target', `${file} cannot be written here`, error)
  if (hasCode(error, 'SQLITE_CORRUPT', 'SQLITE_NOTADB')) return new BackupError('damaged', `${source} is damaged`, error)
  if (error instanceof LibsqlError && /full|disk I\/O/i.test(error.message)) return new BackupError('disk_full', `${file} cannot be written: ${error.message}`, error)
  return error
}

function hasCode(error: unknown, ...codes: string[]): boolean {
  return error instanceof Error && 'code' in error && codes.includes(String(error.code))
}

function mib(bytes: number): string {
  return `${(bytes / 1_048_576).toFixed(1)} MiB`
}
