/**
 * The ring of master keys as a file: made, turned and cut back there, and followed by a router that runs. What is sealed is
 * sealed anew as soon as a new key is in front; until then the old ones have to stay.
 */
import { randomUUID } from 'node:crypto'
import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { KeyRing, MAX_KEYS, newKeyRing, openVault, turning, withNewKey, type TurningVault } from '../guard/vault.ts'
import type { Log, Vault } from '../ports.ts'
import { writeSecret } from './secret-file.ts'

export const MASTER_KEY_FILE = 'master-key.json'

const POLL_MS = 1_000

/** The vault of this router; its ring of keys is made at the first start. */
export async function loadVault(dataDir: string): Promise<Vault> {
  await writeSecret(join(dataDir, MASTER_KEY_FILE), JSON.stringify(newKeyRing(randomUUID())), 'keep')
  return openVault(await readRing(dataDir))
}

/** Puts a new key in front. Returns its name. */
export async function addMasterKey(dataDir: string): Promise<string> {
  const kid = randomUUID()
  const ring = await readRing(dataDir)
  if (ring.keys.length >= MAX_KEYS) throw new Error(`there are ${MAX_KEYS} master keys already; take the old ones away first with \`runyard key forget-master\``)
  await writeSecret(join(dataDir, MASTER_KEY_FILE), JSON.stringify(withNewKey(ring, kid)), 'replace')
  return kid
}

/** Leaves the key in front alone. Returns how many went. */
export async function dropOldMasterKeys(dataDir: string): Promise<number> {
  const { keys, pepper } = await readRing(dataDir)
  await writeSecret(join(dataDir, MASTER_KEY_FILE), JSON.stringify({ keys: keys.slice(0, 1), pepper } satisfies KeyRing), 'replace')
  return keys.length - 1
}

/** The name of the key in front. */
export async function newestMasterKey(dataDir: string): Promise<string> {
  return (await readRing(dataDir)).keys[0]!.kid
}

/** Throws a sentence that says what to do; it has nothing of the keys. */
async function readRing(dataDir: string): Promise<KeyRing> {
  const path = join(dataDir, MASTER_KEY_FILE)
  try {
    return KeyRing.parse(JSON.parse(await readFile(path, 'utf8')))
  } catch {
    throw new Error(`${path} is damaged or not there; without it no provider key can be read. Put the right one back, or move it away and enter every key again`)
  }
}

/** Follows the file. A ring that cannot be read is logged, and the one before it stays. `turned` may fail; it is then called again. */
export async function followVault(parts: { dataDir: string; log: Log; turned: () => Promise<void> }): Promise<{ vault: TurningVault; close(): void }> {
  const { dataDir, log, turned } = parts
  const vault = turning(await loadVault(dataDir))
  const path = join(dataDir, MASTER_KEY_FILE)
  const stamp = async () => {
    const { mtimeMs, ino } = await stat(path)
    return `${mtimeMs}.${ino}`
  }
  let seen = await stamp()
  let owed = false
  let looking = false
  const look = async () => {
    const now = await stamp()
    if (now !== seen) {
      vault.turn(await openVault(await readRing(dataDir)))
      seen = now
      owed = true
    }
    if (!owed) return
    await turned()
    owed = false
    log.info({ key: vault.kid }, 'secrets are sealed with this master key')
  }
  const timer = setInterval(() => {
    if (looking) return
    looking = true
    look()
      .catch((error: unknown) => log.error({ err: error }, 'the master key was changed and cannot be used'))
      .finally(() => (looking = false))
  }, POLL_MS)
  timer.unref()
  return { vault, close: () => clearInterval(timer) }
}
