/**
 * Where the CLI is on this machine. Looks in the order in which a person would expect it, and starts nothing but
 * `--version`; what to do without a CLI is left to the caller.
 */
import { execFile } from 'node:child_process'
import { constants } from 'node:fs'
import { access, stat } from 'node:fs/promises'
import { delimiter, dirname, isAbsolute, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

export const INSTALL_HINT = 'npm install -g @anthropic-ai/claude-code'

type Environment = Readonly<Record<string, string | undefined>>
const VERSION_TIMEOUT_MS = 10_000

/**
 * The path of `claude`: `explicit`, else on PATH, else in the places of its installers, else in the `node_modules` of
 * Runyard or of the current folder. Throws when `explicit` is given and is no executable file: a person named it.
 */
export async function findClaude(options: {
  explicit?: string | undefined
  env: Environment
  home: string
  cwd?: string
}): Promise<string | undefined> {
  const cwd = options.cwd ?? process.cwd()
  if (options.explicit !== undefined) {
    const path = resolve(cwd, options.explicit)
    if (await isExecutable(path)) return path
    throw new Error(`${options.explicit} is not an executable file`)
  }
  // A relative entry of PATH would run whatever lies in the current folder.
  const onPath = (options.env['PATH'] ?? '').split(delimiter).filter((folder) => isAbsolute(folder))
  const here = dirname(fileURLToPath(import.meta.url))
  const folders = [...onPath, ...installFolders(options.home), ...moduleFolders(here), ...moduleFolders(cwd)]
  for (const folder of folders) {
    const path = join(folder, 'claude')
    if (await isExecutable(path)) return path
  }
  return undefined
}

/** What `--version` says, such as `2.1.197`; undefined when the file does not run or does not say one. */
export async function claudeVersion(path: string): Promise<string | undefined> {
  // Nothing but PATH, for an installation that is a script of node.
  const env = { PATH: process.env['PATH'] ?? '' }
  const output = await new Promise<string>((done) => {
    execFile(path, ['--version'], { env, timeout: VERSION_TIMEOUT_MS, killSignal: 'SIGKILL' }, (error, stdout) =>
      done(error ? '' : stdout),
    )
  })
  return /^v?(\d+\.\d+\.\d+[\w.+-]*)/.exec(output.trim())?.[1]
}

function installFolders(home: string): string[] {
  const own = ['.local/bin', '.claude/local', '.claude/local/node_modules/.bin', '.npm-global/bin', '.bun/bin', '.volta/bin']
  return [...own.map((folder) => join(home, folder)), '/usr/local/bin', '/opt/homebrew/bin', '/usr/bin', '/snap/bin']
}

function moduleFolders(start: string): string[] {
  const folders: string[] = []
  for (let at = start; ; at = dirname(at)) {
    folders.push(join(at, 'node_modules/.bin'))
    if (at === dirname(at)) return folders
  }
}

async function isExecutable(path: string): Promise<boolean> {
  try {
    await access(path, constants.X_OK)
    return (await stat(path)).isFile()
  } catch {
    return false
  }
}
