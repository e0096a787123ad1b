/**
 * What a router keeps on disk: the database, its signing key, and what a client on this machine needs to reach it.
 * The directory is 0700 and every secret 0600, created so that there is no moment when it is not.
 */
import { randomUUID } from 'node:crypto'
import { link, mkdir, readFile, rmdir, stat, unlink, writeFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { z } from 'zod'
import { generateSigningJwk, importKeys, type Keys } from '../guard/keys.ts'
import { loadVault, MASTER_KEY_FILE } from './master-key.ts'
import { writeSecret } from './secret-file.ts'

export const SIGNING_KEY_FILE = 'signing-key.json'

/** XDG Base Directory Specification: state that survives restarts and is not worth a backup by the user. */
export function defaultDataDir(env: NodeJS.ProcessEnv = process.env): string {
  return join(env['XDG_STATE_HOME'] ?? join(env['HOME'] ?? homedir(), '.local', 'state'), 'runyard')
}

/** Makes it 0700. One that is there already is left as it is, and refused when others could put files into it. */
export async function makePrivateDir(path: string): Promise<void> {
  if ((await mkdir(path, { recursive: true, mode: 0o700 })) !== undefined) return
  const { mode } = await stat(path)
  if ((mode & 0o022) !== 0) throw new Error(`${path} can be written by other users (mode ${(mode & 0o7777).toString(8)}); name a directory of your own, or \`chmod 700\` it`)
}

const KeyFile = z.object({ issuer: z.string().startsWith('urn:uuid:'), jwk: z.record(z.string(), z.unknown()) })

/** The signing key of this router, made at the first start. */
export async function loadKeys(dataDir: string): Promise<Keys> {
  const path = join(dataDir, SIGNING_KEY_FILE)
  const text = await readFile(path, 'utf8').catch((error: unknown) => {
    if (hasCode(error, 'ENOENT')) return undefined
    throw error
  })
  if (text !== undefined) return parseKeys(path, text)
  const fresh = JSON.stringify({ issuer: `urn:uuid:${randomUUID()}`, jwk: await generateSigningJwk() })
  await writeSecret(path, fresh, 'keep')
  // Another router on the same directory may have been first: what is on disk is the key.
  return parseKeys(path, await readFile(path, 'utf8'))
}

async function parseKeys(path: string, text: string): Promise<Keys> {
  try {
    const { issuer, jwk } = KeyFile.parse(JSON.parse(text))
    return await importKeys(jwk, issuer)
  } catch (error) {
    throw new Error(`${path} is damaged; move it away to make a new key (every token signed with the old one ends)`, { cause: error })
  }
}

/** What a Worker is given as secrets: the files of this directory, made if they are not there. */
export async function workerSecrets(dataDir: string): Promise<{ SIGNING_KEY: string; MASTER_KEY: string }> {
  await Promise.all([loadKeys(dataDir), loadVault(dataDir)])
  const [SIGNING_KEY, MASTER_KEY] = await Promise.all([SIGNING_KEY_FILE, MASTER_KEY_FILE].map((name) => readFile(join(dataDir, name), 'utf8')))
  return { SIGNING_KEY: SIGNING_KEY ?? '', MASTER_KEY: MASTER_KEY ?? '' }
}

/** How a client on this machine reaches the router; written at each start. */
export const ClientFile = z.object({ url: z.url(), token: z.string(), admin_token: z.string() })
export type ClientFile = z.infer<typeof ClientFile>

export async function readClientFile(dataDir: string): Promise<ClientFile | undefined> {
  try {
    return ClientFile.parse(JSON.parse(await readFile(join(dataDir, 'client.json'), 'utf8')))
  } catch {
    return undefined
  }
}

export async function writeClientFile(dataDir: string, file: ClientFile): Promise<void> {
  await writeSecret(join(dataDir, 'client.json'), JSON.stringify(file, null, 2), 'replace')
}

const LOCK_TRIES = 100
const LOCK_WAIT_MS = 50
const TAKEOVER_STALE_MS = 5_000

/**
 * One router per data directory: two would each believe that they hold the runners. Throws a sentence that names the
 * other one; a lock whose owner is gone is taken over.
 */
export async function lockDir(dataDir: string, name: string): Promise<() => Promise<void>> {
  const path = join(dataDir, `${name}.lock`)
  // Linked in place whole: a lock that is still empty would look like one whose owner is gone.
  const mine = `${path}.${randomUUID()}`
  await writeFile(mine, `${process.pid} ${(await startOf(process.pid)) ?? ''}`, { mode: 0o600, flag: 'wx' })
  try {
    for (let attempt = 0; attempt < LOCK_TRIES; attempt++) {
      try {
        await link(mine, path)
        return () => unlink(path).catch(() => undefined)
      } catch (error) {
        if (!hasCode(error, 'EEXIST')) throw error
        const pid = await lockHolder(dataDir, name)
        if (pid !== undefined && pid !== process.pid) throw new Error(`${dataDir} is in use by process ${pid}; stop it, or name another --data-dir`, { cause: error })
        await takeOver(dataDir, name)
      }
    }
  } finally {
    await unlink(mine)
  }
  throw new Error(`${path} cannot be taken`)
}

/** Removes a lock whose owner is gone. One at a time: two that both saw the dead one would remove each other's new lock. */
async function takeOver(dataDir: string, name: string): Promise<void> {
  const turn = join(dataDir, `${name}.lock.takeover`)
  try {
    await mkdir(turn)
  } catch (error) {
    if (!hasCode(error, 'EEXIST')) throw error
    const age = Date.now() - ((await stat(turn).catch(() => undefined))?.mtimeMs ?? Date.now())
    // Held for microseconds; an old one is of somebody who died in them.
    if (age > TAKEOVER_STALE_MS) await rmdir(turn).catch(() => undefined)
    else await new Promise((resolve) => setTimeout(resolve, LOCK_WAIT_MS))
    return
  }
  try {
    const pid = await lockHolder(dataDir, name)
    if (pid === undefined || pid === process.pid) await unlink(join(dataDir, `${name}.lock`)).catch(() => undefined)
  } finally {
    await rmdir(turn).catch(() => undefined)
  }
}

/** The living process that holds the lock of `lockDir`. */
export async function lockHolder(dataDir: string, name: string): Promise<number | undefined> {
  const [pid = 0, start] = (await readFile(join(dataDir, `${name}.lock`), 'utf8').catch(() => '')).split(' ').map(Number)
  // After a reboot the number may belong to anybody; the start time tells.
  return isAlive(pid) && (!start || (await startOf(pid)) === start) ? pid : undefined
}

/** When a process started, in ticks since boot (proc(5), field 22); undefined where there is no /proc. */
async function startOf(pid: number): Promise<number | undefined> {
  const line = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => undefined)
  // The command name is in parentheses and may hold anything, so count from its end.
  return line === undefined ? undefined : Number(line.slice(line.lastIndexOf(')') + 2).split(' ')[19])
}

function isAlive(pid: number): boolean {
  if (!(pid > 0)) return false
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return hasCode(error, 'EPERM')
  }
}

function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code
}
