/**
 * The config directory of the CLI, one for each tenant: empty settings, the files of its pool, and nothing else that the CLI
 * would take for its user's own word. To be made good before every start, while others may run there.
 *
 * Those others can write there at every moment: whatever is changed is reached through a folder that is held, so that a
 * link in the place of one leads nobody out (held-folder.ts, also for where that is not so).
 *
 * What the files may say was looked at before; transcripts and the login beside them are others' business.
 */
import { randomUUID } from 'node:crypto'
import { closeSync, constants, fstatSync, lstatSync, mkdirSync, openSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { configPath, type ConfigFile } from '../shared/config-files.ts'
import { agentFile } from './agent-file.ts'
import { HeldFolder, removeTree, type Path } from './held-folder.ts'

/** Nothing is set here: what a run may do comes with its command line. */
const SETTINGS = '{}\n'

/**
 * What the CLI reads as its user's own instructions, in lower case. A tool of one run could leave them there for the next
 * one. Where a file system takes other spellings for the same, `claude.md` is read as well.
 */
const INSTRUCTIONS = new Set(['claude.md', 'agents', 'commands', 'hooks', 'output-styles', 'plugins', 'rules', 'settings.local.json', 'skills'])
/** Beside what it becomes, so that it can be renamed; the CLI looks at no such name. */
const FRESH = '.runyard-'
/** A tool may put a pipe there at any moment, and nobody is to wait for what comes out of it. */
const TO_LOOK = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK

/** A folder by its names: the text of a file, or a folder. */
type Wanted = Map<string, string | Wanted>

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
  const top = HeldFolder.openSync(configDir)
  if (!top) throw new Error(`${configDir} is not a folder`)
  const wanted = wantedOf(files)
  try {
    // For one that was there already with another mode.
    top.unlock()
    for (const name of top.namesSync()) {
      const text = name.toString()
      if (text.startsWith(FRESH) || (isInstruction(text) && !wanted.has(text))) await removeTree(top.at(name))
    }
    await fill(top, wanted, top)
  } finally {
    top.close()
  }
}

function wantedOf(files: readonly ConfigFile[]): Wanted {
  const top: Wanted = new Map()
  for (const file of files) {
    const names = configPath(file).split('/')
    const last = names.pop() ?? ''
    let folder = top
    for (const name of names) {
      const found = folder.get(name)
      const inner: Wanted = found instanceof Map ? found : new Map()
      folder.set(name, inner)
      folder = inner
    }
    folder.set(last, file.kind === 'agents' ? agentFile(file) : file.content)
  }
  return top.set('settings.json', SETTINGS)
}

/** As file systems compare that take other spellings for the same: by case, and by what a letter is made of. */
function isInstruction(name: string): boolean {
  return INSTRUCTIONS.has(name.normalize('NFKC').toLowerCase())
}

async function fill(folder: HeldFolder, wanted: Wanted, top: HeldFolder): Promise<void> {
  for (const [name, what] of wanted) {
    if (typeof what === 'string') await keep(folder, name, what, top)
    else await keepFolder(folder, name, what, top)
  }
}

/** A real folder with nothing else in it, in place of whatever is there. */
async function keepFolder(parent: HeldFolder, name: string, wanted: Wanted, top: HeldFolder): Promise<void> {
  const folder = HeldFolder.openSync(parent.at(name)) ?? (await madeFolder(parent, name))
  try {
    folder.unlock()
    for (const other of folder.namesSync()) if (!wanted.has(other.toString())) await removeTree(folder.at(other))
    await fill(folder, wanted, top)
  } finally {
    folder.close()
  }
}

async function madeFolder(parent: HeldFolder, name: string): Promise<HeldFolder> {
  const path = parent.at(name)
  await removeTree(path)
  mkdirSync(path, { mode: 0o700 })
  const made = HeldFolder.openSync(path)
  if (!made) throw new Error(`${name} in the config directory is no folder any more`)
  return made
}

async function keep(folder: HeldFolder, name: string, content: string, top: HeldFolder): Promise<void> {
  const file = folder.at(name)
  if (hasExactly(file, content)) return
  // A tool may have put a folder or a link there; renaming replaces a link, not what it points to.
  if (kindOf(file) === 'folder') await removeTree(file)
  const fresh = top.at(`${FRESH}${randomUUID()}`)
  writeFileSync(fresh, content, { mode: 0o600, flag: 'wx' })
  renameSync(fresh, file)
}

/** False for all but a file with exactly that in it that can be opened at once: no link, no socket, and no lease on it. */
function hasExactly(file: Path, content: string): boolean {
  const fd = openedNow(file)
  if (fd === undefined) return false
  try {
    const found = fstatSync(fd)
    return found.isFile() && found.size === Buffer.byteLength(content) && readFileSync(fd, 'utf8') === content
  } finally {
    closeSync(fd)
  }
}

/** Undefined for whatever reason: it is replaced then, and real trouble shows there. */
function openedNow(file: Path): number | undefined {
  try {
    return openSync(file, TO_LOOK)
  } catch {
    return undefined
  }
}

export function kindOf(path: Path): 'none' | 'file' | 'link' | 'folder' | 'other' {
  const found = lstatSync(path, { throwIfNoEntry: false })
  if (!found) return 'none'
  if (found.isFile()) return 'file'
  if (found.isSymbolicLink()) return 'link'
  return found.isDirectory() ? 'folder' : 'other'
}
