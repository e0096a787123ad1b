/** The snippets of a page, run as they stand there by the programs that they are written for. */
import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)

/** Debian's, which has the packages that Debian installs for it. */
export const PYTHON = '/usr/bin/python3'

const COMMANDS: Readonly<Record<string, readonly [string, ...string[]]>> = {
  sh: ['sh', '-e', '-c'],
  python: [PYTHON, '-c'],
  js: [process.execPath, '--input-type=module', '-e'],
}

export interface Snippet {
  readonly language: string
  readonly code: string
}

/** `page`: from the root of the repository. */
export async function snippetsOf(page: string): Promise<Snippet[]> {
  const text = await readFile(join(import.meta.dirname, '../..', page), 'utf8')
  return [...text.matchAll(/^```(\w+)\n([\s\S]*?)^```$/gm)].map(([, language, code]) => ({ language: language!, code: code! }))
}

/** What it prints. Rejects with what it complained of. */
export async function output({ language, code }: Snippet, env: Record<string, string>): Promise<string> {
  const [command, ...args] = COMMANDS[language]!
  return execute(command, [...args, code], env)
}

export async function execute(command: string, args: readonly string[], env: Record<string, string>): Promise<string> {
  // Python would leave what it compiled beside the sources, and there it would be shipped.
  const kept = { PATH: process.env['PATH'] ?? '/usr/bin:/bin', PYTHONDONTWRITEBYTECODE: '1' }
  const { stdout } = await run(command, args, { env: { ...kept, ...env }, timeout: 25_000 })
  return stdout
}
