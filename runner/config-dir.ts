/**
 * The config directory of the CLI, one for each tenant: empty settings, the files of its pool, and nothing else that the CLI
 * would take for its user's own word. To be made good before every start, while others may run there.
 *
 * What the files may say was looked at before; transcripts and the login beside them are others' business.
 */
import { randomUUID } from 'node:crypto'
import { chmodSync, closeSync, constants, fstatSync, lstatSync, mkdirSync, openSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { configPath, type ConfigFile } from '../shared/config-files.ts'
import { agentFile } from './agent-file.ts'

/** Nothing is set here: what a run may do comes with its command line. */
const SETTINGS = '{}\n'

/** What the CLI reads as its user's own instructions. A tool of one run could leave them there for the next one. */
const INSTRUCTIONS = new Set(['CLAUDE.md', 'agents', 'commands', 'hooks', 'output-styles', 'plugins', 'rules', 'settings.local.json', 'skills'])
/** Beside what it becomes, so that it can be renamed; the CLI looks at no such name. */
const FRESH = '.runyard-'
/** A tool may put a pipe there at any moment, and nobody is to wait for what comes out of it. */
const TO_LOOK = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK

/** Nothing, a link, a socket; or a file whose mode was changed. */
const NOT_TO_BE_READ = new Set(['ENOENT', 'ELOOP', 'ENXIO', 'EACCES'])

/** Preparations of one directory, in turn: the last one began with the newest files. */
const turns = new Map<string, Promise<void>>()

/**
 * Makes the directory (0700), its settings and `files`, and clears away every other instruction. What is as it should be
 * is left alone, and what is not is replaced at once: a CLI that runs there watches it.
 *
 * Every run waits for this, and as a rule there is only to look: that takes 0.1 ms with calls that do not go through the
 * thread pool, on the disk of the spool, and 1 ms with those that do. What was put there to be removed may take longer.
 */
export function prepareConfigDir(configDir: string, files: readonly ConfigFile[] = []): Promise<void> {
  const mine = (turns.get(configDir) ?? Promise.resolve()).then(() => prepare(configDir, files))
  const over = mine.then(
    () => undefined,
    () => undefined,
  )
  turns.set(configDir, over)
  void over.then(() => turns.get(configDir) === over && turns.delete(configDir))
  return mine
}

async function prepare(configDir: string, files: readonly ConfigFile[]): Promise<void> {
  mkdirSync(configDir, { recursive: true, mode: 0o700 })
  if (kindOf(configDir) !== 'folder') throw new Error(`${configDir} is not a folder`)
  // For one that was there already with another mode.
  chmodSync(configDir, 0o700)
  const wanted = new Map(files.map((file) => [configPath(file), file.kind === 'agents' ? agentFile(file) : file.content]))
  for (const path of wanted.keys()) await folderOf(configDir, path)
  for (const name of readdirSync(configDir)) {
    if (INSTRUCTIONS.has(name)) await clear(configDir, name, wanted)
    else if (name.startsWith(FRESH)) await rm(join(configDir, name), { recursive: true, force: true })
  }
  for (const [path, content] of [...wanted, ['settings.json', SETTINGS] as const]) await keep(configDir, path, content)
}

/** A real folder for it, in place of whatever else is there. */
async function folderOf(configDir: string, path: string): Promise<void> {
  const folder = dirname(path)
  if (folder === '.') return
  await folderOf(configDir, folder)
  const absolute = join(configDir, folder)
  if (kindOf(absolute) === 'folder') return
  await rm(absolute, { recursive: true, force: true })
  mkdirSync(absolute, { mode: 0o700 })
}

/** Takes away all at `path` and below it that nobody wants there. */
async function clear(configDir: string, path: string, wanted: ReadonlyMap<string, string>): Promise<void> {
  if (wanted.has(path)) return
  const absolute = join(configDir, path)
  const holds = [...wanted.keys()].some((other) => other.startsWith(`${path}/`))
  if (!holds) return rm(absolute, { recursive: true, force: true })
  for (const name of readdirSync(absolute)) await clear(configDir, `${path}/${name}`, wanted)
}

async function keep(configDir: string, path: string, content: string): Promise<void> {
  const file = join(configDir, path)
  if (hasExactly(file, content)) return
  // A tool may have put a folder or a link there; renaming replaces a link, not what it points to.
  if (kindOf(file) === 'folder') await rm(file, { recursive: true, force: true })
  const fresh = join(configDir, `${FRESH}${randomUUID()}`)
  writeFileSync(fresh, content, { mode: 0o600, flag: 'wx' })
  renameSync(fresh, file)
}

/** False for all but a file with exactly that in it. */
function hasExactly(file: string, content: string): boolean {
  let fd: number | undefined
  try {
    fd = openSync(file, TO_LOOK)
    const found = fstatSync(fd)
    return found.isFile() && found.size === Buffer.byteLength(content) && readFileSync(fd, 'utf8') === content
  } catch (error) {
    if (error instanceof Error && 'code' in error && NOT_TO_BE_READ.has(String(error.code))) return false
    throw error
  } finally {
    if (fd !== undefined) closeSync(fd)
  }
}

export function kindOf(path: string): 'none' | 'file' | 'link' | 'folder' | 'other' {
  const found = lstatSync(path, { throwIfNoEntry: false })
  if (!found) return 'none'
  if (found.isFile()) return 'file'
  if (found.isSymbolicLink()) return 'link'
  return found.isDirectory() ? 'folder' : 'other'
}
