/** What this disk asks for one group commit: a small write that is there to stay (fdatasync), as a log writes it. */
import { open, rm } from 'node:fs/promises'
import { join } from 'node:path'

/** Four pages: what a commit of a few events adds to the log of a database. */
const COMMIT_BYTES = 16 * 1024
const FILE_BYTES = 4 * 1024 * 1024

/** ms of each of `times` commits in a file of `dir`, which has its size already. */
export async function commits(dir: string, times: number): Promise<number[]> {
  const path = join(dir, `commits-${process.pid}`)
  const file = await open(path, 'w')
  const bytes = Buffer.alloc(COMMIT_BYTES, 1)
  const took: number[] = []
  try {
    await file.write(Buffer.alloc(FILE_BYTES))
    await file.sync()
    for (let i = 0; i < times; i++) {
      const began = performance.now()
      await file.write(bytes, 0, bytes.length, (i * COMMIT_BYTES) % FILE_BYTES)
      await file.datasync()
      took.push(performance.now() - began)
    }
  } finally {
    await file.close()
    await rm(path, { force: true })
  }
  return took
}
