/** Files that hold a secret: 0600 from the first moment, whole or not there. */
import { randomUUID } from 'node:crypto'
import { link, rename, unlink, writeFile } from 'node:fs/promises'

/** Whole or not at all. `keep`: an existing file wins. */
export async function writeSecret(path: string, text: string, existing: 'keep' | 'replace'): Promise<void> {
  const temporary = `${path}.${randomUUID()}`
  await writeFile(temporary, text, { mode: 0o600, flag: 'wx', flush: true })
  if (existing === 'replace') return rename(temporary, path)
  try {
    await link(temporary, path)
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error
  } finally {
    await unlink(temporary)
  }
}
