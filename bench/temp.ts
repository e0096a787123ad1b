/** Folders that are gone when the bench is, also when it is told to stop in the middle. */
import { rmSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const made = new Set<string>()

export async function makeTemp(name: string): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), `runyard-bench-${name}-`))
  made.add(dir)
  return dir
}

/** What was in it may take a moment to end. */
export async function removeTemp(dir: string): Promise<void> {
  await rm(dir, { recursive: true, force: true, maxRetries: 5 })
  made.delete(dir)
}

/** For the way out in a hurry, after everything that was started has been killed. */
export function removeAllTemp(): void {
  for (const dir of made) rmSync(dir, { recursive: true, force: true, maxRetries: 5 })
}
