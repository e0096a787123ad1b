/**
 * Taking a place on disk for a new identity and giving it up again. Whoever creates `identity.json` holds the place;
 * what was there before comes back when the router says no.
 */
import { lstat, mkdir, open, rename, rm, rmdir, stat, type FileHandle } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { IDENTITY_FILE, IdentityError, isErrno, SEALING_FILE, SIGNING_FILE } from './identity.ts'

const FILES = [IDENTITY_FILE, SIGNING_FILE, SEALING_FILE]

export interface Place {
  /** Creates one of the key files, 0600. */
  writeKey(file: string, jwk: object): Promise<void>
  /** Writes identity.json; after it the enrolment stands. */
  commit(identity: object): Promise<void>
  /** Removes everything that was created and restores what was there. */
  abandon(): Promise<void>
}

/** Throws `exists` when `dir` holds an identity, or the rest of one, unless `force`. */
export async function takePlace(dir: string, force: boolean): Promise<Place> {
  const firstMade = await mkdir(dir, { recursive: true, mode: 0o700 }).catch((error: unknown) => {
    throw unusable(dir, error)
  })
  const saved: string[] = []
  let claim: FileHandle | undefined
  const abandon = async (): Promise<void> => {
    await claim?.close()
    // Without the claim the files are somebody else's; and they are again once identity.json, the last one, is gone.
    if (claim) for (const file of FILES.toReversed()) await rm(join(dir, file), { force: true })
    for (const file of saved) await rename(join(dir, `${file}.old`), join(dir, file))
    if (firstMade !== undefined) await removeEmpty(dir, firstMade)
  }
  try {
    await refuseIfWritable(dir)
    for (const file of FILES) {
      const there = await exists(join(dir, file))
      if (there && !force) throw taken(dir)
      if (!there) continue
      await rename(join(dir, file), join(dir, `${file}.old`))
      saved.push(file)
    }
    claim = await createSecret(join(dir, IDENTITY_FILE))
  } catch (error) {
    await abandon()
    throw isErrno(error, 'EEXIST') ? taken(dir) : unusable(dir, error)
  }
  const held = claim
  return {
    async writeKey(file, jwk) {
      const handle = await createSecret(join(dir, file))
      try {
        await writeJson(handle, jwk)
      } finally {
        await handle.close()
      }
    },
    async commit(identity) {
      await writeJson(held, identity)
      await held.close()
      for (const file of saved) await rm(join(dir, `${file}.old`))
    },
    abandon,
  }
}

/** O_EXCL: never a file, or a symlink, that somebody put there for us to write a key to. */
function createSecret(path: string): Promise<FileHandle> {
  return open(path, 'wx', 0o600)
}

async function writeJson(handle: FileHandle, value: object): Promise<void> {
  await handle.writeFile(`${JSON.stringify(value, null, 2)}\n`)
  await handle.sync()
}

async function exists(path: string): Promise<boolean> {
  // Not `stat`: a symlink that leads nowhere is in the way as well.
  return lstat(path).then(
    () => true,
    (error: unknown) => {
      if (isErrno(error, 'ENOENT')) return false
      throw error
    },
  )
}

/** Who can write the directory can put another key in place of ours. */
async function refuseIfWritable(dir: string): Promise<void> {
  if (process.platform === 'win32') return
  const { mode } = await stat(dir)
  if ((mode & 0o022) !== 0)
    throw new IdentityError('invalid', `other users can write to ${dir}; \`chmod 700\` it, or choose another directory`)
}

async function removeEmpty(dir: string, firstMade: string): Promise<void> {
  for (let at = dir; ; at = dirname(at)) {
    const gone = await rmdir(at).then(
      () => true,
      // Somebody has put something there meanwhile; it is not ours to remove.
      () => false,
    )
    if (!gone || at === firstMade || at === dirname(at)) return
  }
}

function unusable(dir: string, error: unknown): unknown {
  if (!(error instanceof Error) || error instanceof IdentityError) return error
  return new IdentityError('invalid', `cannot keep an identity in ${dir}: ${error.message}`, { cause: error })
}

function taken(dir: string): IdentityError {
  const files = FILES.map((file) => join(dir, file)).join(' ')
  return new IdentityError('exists', `this machine is enrolled already; to enrol it anew use --force, or remove ${files}`)
}
