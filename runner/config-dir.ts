/**
 * The config directory of the CLI, one for each tenant: empty settings, the files of its pool, and nothing else that the CLI
 * would take for its user's own word. To be made good before every start, while others may run there.
 *
 * What the files may say was looked at before; transcripts and the login beside them are others' business.
 */
import { randomUUID } from 'node:crypto'
import { chmod, lstat, mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { configPath, type ConfigFile } from '../shared/config-files.ts'
import { agentFile } from './agent-file.ts'

/** Nothing is set here: what a run may do comes with its command line. */
const SETTINGS = '{}\n'

/** What the CLI reads as its user's own instructions. A tool of one run could leave them there for the next one. */
const INSTRUCTIONS = ['CLAUDE.md', 'agents', 'commands', 'hooks', 'output-styles', 'plugins', 'rules', 'settings.local.json', 'skills']
/** Beside what it becomes, so that it can be renamed; the CLI looks at no such name. */
const FRESH = '.runyard-'

/** Preparations of one directory, in turn: the last one began with the newest files. */
const turns = new Map<string, Promise<void>>()

/**
 * Makes the directory (0700), its settings and `files`, and clears away every other instruction. What is as it should be
 * is left alone, and what is not is replaced at once: a CLI that runs there watches it.
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
  await mkdir(configDir, { recursive: true, mode: 0o700 })
  if ((await kindOf(configDir)) !== 'folder') throw new Error(`${configDir} is not a folder`)
  // For one that was there already with another mode.
  await chmod(configDir, 0o700)
  const wanted = new Map(files.map((file) => [configPath(file), file.kind === 'agents' ? agentFile(file) : file.content]))
  for (const path of wanted.keys()) await folderOf(configDir, path)
  for (const name of INSTRUCTIONS) await clear(configDir, name, wanted)
  for (const name of await readdir(configDir)) if (name.startsWith(FRESH)) await rm(join(configDir, name), { recursive: true, force: true })
  for (const [path, content] of [...wanted, ['settings.json', SETTINGS] as const]) await keep(configDir, path, content)
}

/** A real folder for it, in place of whatever else is there. */
async function folderOf(configDir: string, path: string): Promise<void> {
  const folder = dirname(path)
  if (folder === '.') return
  await folderOf(configDir, folder)
  const absolute = join(configDir, folder)
  if ((await kindOf(absolute)) === 'folder') return
  await rm(absolute, { recursive: true, force: true })
  await mkdir(absolute, { mode: 0o700 })
}

/** Takes away all at `path` and below it that nobody wants there. */
async function clear(configDir: string, path: string, wanted: ReadonlyMap<string, string>): Promise<void> {
  if (wanted.has(path)) return
  const absolute = join(configDir, path)
  const holds = [...wanted.keys()].some((other) => other.startsWith(`${path}/`))
  if (!holds) return rm(absolute, { recursive: true, force: true })
  for (const name of await readdir(absolute)) await clear(configDir, `${path}/${name}`, wanted)
}

async function keep(configDir: string, path: string, content: string): Promise<void> {
  const file = join(configDir, path)
  const found = await kindOf(file)
  if (found === 'file' && (await stat(file)).size === Buffer.byteLength(content) && (await readFile(file, 'utf8')) === content) return
  // A tool may have put a folder or a link there; renaming replaces a link, not what it points to.
  if (found === 'folder') await rm(file, { recursive: true, force: true })
  const fresh = join(configDir, `${FRESH}${randomUUID()}`)
  await writeFile(fresh, content, { mode: 0o600, flag: 'wx' })
  await rename(fresh, file)
}

export async function kindOf(path: string): Promise<'none' | 'file' | 'link' | 'folder' | 'other'> {
  try {
    const found = await lstat(path)
    if (found.isFile()) return 'file'
    if (found.isSymbolicLink()) return 'link'
    return found.isDirectory() ? 'folder' : 'other'
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return 'none'
    throw error
  }
}
