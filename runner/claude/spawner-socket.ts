/**
 * Where a runner takes the pipes of its CLIs: a socket in a folder of its own, that no other user can enter.
 *
 * The folder lies with the other temporary files, unless its path would be too long for a socket; then in `/tmp`. Who connects
 * is for the caller to find out.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/**
 * 108 bytes of `sun_path` on Linux and 104 on macOS, less the NUL at its end. What is longer is cut without a word (libuv
 * 1.46): such a socket would lie beside the folder, open to everybody, and each other runner's at the same place.
 */
export const MAX_PATH_BYTES = process.platform === 'linux' ? 107 : 103

const FOLDER = 'runyard-spawner-'
const SOCKET = 'pipes'
/** What `mkdtemp` puts at the end of a name. */
const RANDOM = 'XXXXXX'

/** In the first of the folders where it can be. Throws when that is none of them. */
export async function listenNearby(folders: readonly string[] = [tmpdir(), '/tmp']): Promise<{ server: Server; path: string }> {
  const errors: Error[] = []
  for (const folder of new Set(folders)) {
    try {
      return await listenIn(folder)
    } catch (error) {
      errors.push(error as Error)
    }
  }
  throw new AggregateError(errors, `a socket can be nowhere: ${errors.map(({ message }) => message).join('; ')}`)
}

async function listenIn(folder: string): Promise<{ server: Server; path: string }> {
  const bytes = Buffer.byteLength(join(folder, FOLDER + RANDOM, SOCKET))
  if (bytes > MAX_PATH_BYTES) throw new Error(`the path of a socket in ${folder} would have ${bytes} bytes, ${MAX_PATH_BYTES} are possible`)
  // 0700.
  const dir = await mkdtemp(join(folder, FOLDER))
  const server = createServer()
  try {
    const path = join(dir, SOCKET)
    // The handler stays: a connection for which no descriptor is left is an error too, and it is missed by whom it was for.
    await new Promise<void>((resolve, reject) => server.on('error', reject).listen(path, resolve))
    return { server, path }
  } catch (error) {
    await rm(dir, { recursive: true, force: true })
    throw error
  }
}
