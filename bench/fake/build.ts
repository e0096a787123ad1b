/** Makes the fake CLI of `claude.c`, once. */
import { execFile } from 'node:child_process'
import { mkdir, rename, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { ROOT } from '../../test/chaos/processes.ts'

const SOURCE = join(ROOT, 'bench/fake/claude.c')
const MADE = join(ROOT, 'dist/bench/fake/claude')

/** Path of the program. Rejects with what to install where there is no C compiler. */
export async function fakeClaude(): Promise<string> {
  const [source, made] = await Promise.all([SOURCE, MADE].map((path) => stat(path).catch(() => undefined)))
  if (made && source && made.mtimeMs >= source.mtimeMs) return MADE
  await mkdir(dirname(MADE), { recursive: true })
  // Of its own name first: another bench may be starting the old one at this moment.
  const fresh = `${MADE}.${process.pid}`
  try {
    await promisify(execFile)('cc', ['-O2', '-Wall', '-Wextra', '-o', fresh, SOURCE])
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    throw new Error('the fake CLI is written in C, and there is no `cc` here: install a C compiler (apt-get install gcc libc6-dev)', { cause: error })
  }
  await rename(fresh, MADE)
  return MADE
}
