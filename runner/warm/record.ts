/**
 * What is on disk of processes that outlive a run, for the start after a `kill -9` of the runner: a file for each in
 * `<stateDir>/warm/`, named by its marker. The spool knows the marker of a process too, but only until its run is forgotten.
 *
 * Written before the process is spawned, removed when it is gone. Not synced: when the machine loses its power no process
 * is left either. Where nothing can be written, `write` says so, and the caller lets the process end with its turn, which
 * the spool covers, or does not start it, if it is a spare.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'

const Content = z.object({ folder: z.string().startsWith('/').optional() })
const NAME = /^([0-9a-f-]{36})\.json$/

export interface Left {
  /** In the environment of the process and of all its children. */
  readonly marker: string
  /** Was made for it, and is to go with it if it is empty. */
  readonly folder?: string | undefined
}

export class WarmRecords {
  readonly #dir: string
  readonly #log: (message: string, fields: Record<string, unknown>) => void
  readonly #markers = new Set<string>()
  #failed = false

  constructor(stateDir: string, log: (message: string, fields: Record<string, unknown>) => void) {
    this.#dir = join(stateDir, 'warm')
    this.#log = log
  }

  /** Of all that may be alive, those included that are only starting. */
  get markers(): readonly string[] {
    return [...this.#markers]
  }

  /** Anew for one that is there, when its folder is no longer to go. False: this is not on disk. */
  async write({ marker, folder }: Left): Promise<boolean> {
    try {
      mkdirSync(this.#dir, { recursive: true, mode: 0o700 })
      writeFileSync(this.#file(marker), JSON.stringify({ folder }), { mode: 0o600 })
    } catch (error) {
      // Of a full disk the name may be there without its content, which would outlive a process that is not kept. Of one that
      // lives and was written before, the name is what counts.
      if (!this.#markers.has(marker)) await this.remove(marker)
      if (!this.#failed) this.#log('no CLI is kept for a next turn, as that cannot be written down', { err: error })
      this.#failed = true
      return false
    }
    this.#markers.add(marker)
    this.#failed = false
    return true
  }

  /** It is gone. */
  async remove(marker: string): Promise<void> {
    this.#markers.delete(marker)
    // What stays makes the next start look for a process that is not there.
    await rm(this.#file(marker), { force: true }).catch((error: unknown) => {
      this.#log('the record of a CLI that has ended stays', { marker, err: error })
    })
  }

  /** What an earlier process of the runner has left. The caller ends what is alive of each, and then removes it. */
  async leftBehind(): Promise<Left[]> {
    const names = await readdir(this.#dir).catch(() => [])
    const markers = names.map((name) => NAME.exec(name)?.[1]).filter((marker) => marker !== undefined)
    return Promise.all(markers.filter((marker) => !this.#markers.has(marker)).map((marker) => this.#read(marker)))
  }

  async #read(marker: string): Promise<Left> {
    // Without its content it still has its name.
    const text = await readFile(this.#file(marker), 'utf8').catch(() => '{}')
    return { marker, folder: folderIn(text) }
  }

  #file(marker: string): string {
    return join(this.#dir, `${marker}.json`)
  }
}

function folderIn(text: string): string | undefined {
  try {
    return Content.parse(JSON.parse(text)).folder
  } catch {
    return undefined
  }
}
