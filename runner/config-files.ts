/**
 * The files that this runner's pool is to have for the CLI, as the router sent them last: held here and on disk, so that a
 * runner that starts without a router has them too. Where the CLI finds them is config-dir.ts' business.
 *
 * What came is looked at once more, by the rules of this build: the router may be another one.
 */
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'
import { configRefusal } from '../shared/config-content.ts'
import { ConfigFile, ConfigKind, MAX_CONFIG_FILES } from '../shared/config-files.ts'
import type { ConfigMessage, Configured } from '../shared/frames.ts'

const FILE = 'config-files.json'
const Kept = z.object({ version: z.int().nonnegative(), files: z.array(z.unknown()).max(MAX_CONFIG_FILES) })

export interface ConfigFilesOptions {
  readonly stateDir: string
  /** What the owner says. */
  readonly allowed: boolean
  /** They are not what they were: what was started with the old ones is out of date. */
  changed?(): void
  log(message: string, fields: Record<string, unknown>): void
}

export class ConfigFiles {
  readonly #options: ConfigFilesOptions
  readonly #path: string
  #files: readonly ConfigFile[] = []
  /** Of a set that is still coming. */
  #coming: { readonly version: number; readonly parts: number; next: number; readonly files: unknown[] } | undefined

  constructor(options: ConfigFilesOptions) {
    this.#options = options
    this.#path = join(options.stateDir, FILE)
    if (options.allowed) this.#files = this.#load()
    else rmSync(this.#path, { force: true })
  }

  /** What the next start of the CLI is to find. */
  get files(): readonly ConfigFile[] {
    return this.#files
  }

  /** The answer, once the last part is here. Parts that do not follow each other are of a connection that was cut. */
  take({ version, part, parts, files }: Omit<ConfigMessage, 't'>): Configured | undefined {
    if (part === 0) this.#coming = { version, parts, next: 0, files: [] }
    const coming = this.#coming
    if (coming?.version !== version || coming.next !== part || coming.parts !== parts) return undefined
    coming.files.push(...files)
    coming.next++
    if (coming.next < parts) return undefined
    this.#coming = undefined
    const error = this.#replace(version, coming.files)
    return { t: 'configured', version, ...(error === undefined ? {} : { error: error.slice(0, 512) }) }
  }

  #replace(version: number, sent: readonly unknown[]): string | undefined {
    if (!this.#options.allowed) return sent.length > 0 ? 'config_files: the owner of this machine takes no files from the router' : undefined
    const { files, refused } = judge(sent)
    const isNew = JSON.stringify(files) !== JSON.stringify(this.#files)
    this.#files = files
    if (isNew) this.#options.changed?.()
    for (const why of refused) this.#options.log('a config file of the router is left out', { why })
    try {
      const fresh = `${this.#path}.new`
      writeFileSync(fresh, JSON.stringify({ version, files }), { mode: 0o600 })
      renameSync(fresh, this.#path)
    } catch (error) {
      this.#options.log('config files could not be kept', { err: error })
      return 'the files are used, but could not be kept on disk'
    }
    return refused.length > 0 ? `${refused.length} files were left out: ${refused.join('; ')}` : undefined
  }

  #load(): ConfigFile[] {
    let text: string
    try {
      text = readFileSync(this.#path, 'utf8')
    } catch {
      // There were none; what cannot be read comes again with the first connection.
      return []
    }
    const kept = Kept.safeParse(parse(text))
    return kept.success ? judge(kept.data.files).files : []
  }
}

function judge(sent: readonly unknown[]): { files: ConfigFile[]; refused: string[] } {
  const files = new Map<string, ConfigFile>()
  const refused: string[] = []
  for (const [i, one] of sent.entries()) {
    const read = ConfigFile.refine(({ kind, name }) => (kind === 'claude-md') === (name === ''), 'has a name that does not fit').safeParse(one)
    const why = read.success ? configRefusal(read.data) : reasonOf(read.error)
    if (read.success && why === undefined && files.size < MAX_CONFIG_FILES) files.set(`${read.data.kind}/${read.data.name}`, read.data)
    else refused.push(`${labelOf(one) ?? `file ${i + 1}`} ${why ?? 'is one too many'}`)
  }
  return { files: [...files.values()], refused }
}

/** For a person: a name that is no name tells more than a number. */
const Label = z.object({ kind: ConfigKind, name: z.string().regex(/^[\x20-\x7e]{0,100}$/) })

function labelOf(one: unknown): string | undefined {
  const { data } = Label.safeParse(one)
  return data && (data.name === '' ? data.kind : `${data.kind}/${data.name}`)
}

function reasonOf({ issues: [issue] }: z.ZodError): string {
  return [...(issue?.path.length ? [`${issue.path.join('.')}:`] : []), issue?.message ?? 'is none'].join(' ')
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
