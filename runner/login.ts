/**
 * What pays for the CLI on this machine: variables in the runner's environment, or the login of its user.
 *
 * Credentials are passed on and never read: a login file is only seen to exist.
 */
import { randomUUID } from 'node:crypto'
import { access, readlink, rename, symlink } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { kindOf } from './config-dir.ts'

export type LocalLogin =
  /** `credentialsFile` only where the variables bring no credential themselves, such as a base URL alone. */
  | { kind: 'env'; env: Record<string, string>; credentialsFile?: string }
  | { kind: 'login'; credentialsFile: string }
  | { kind: 'none' }

type Environment = Readonly<Record<string, string | undefined>>

const CREDENTIALS = ['ANTHROPIC_API_KEY', 'ANTHROPIC_AUTH_TOKEN', 'CLAUDE_CODE_OAUTH_TOKEN'] as const
const CREDENTIALS_FILE = '.credentials.json'

/** The environment first, as the CLI does; then `.credentials.json` in the CLI's config directory. An empty variable is none. */
export async function localLogin(options: { env: Environment; home: string }): Promise<LocalLogin> {
  const env: Record<string, string> = {}
  for (const name of [...CREDENTIALS, 'ANTHROPIC_BASE_URL']) {
    const value = options.env[name]
    if (value) env[name] = value
  }
  const hasCredential = CREDENTIALS.some((name) => env[name] !== undefined)
  const credentialsFile = hasCredential ? undefined : await loginFile(options)
  if (Object.keys(env).length > 0) {
    // A gateway may want more than a key of those who come to it.
    const headers = options.env['ANTHROPIC_CUSTOM_HEADERS']
    if (headers) env['ANTHROPIC_CUSTOM_HEADERS'] = headers
    return { kind: 'env', env, ...(credentialsFile === undefined ? {} : { credentialsFile }) }
  }
  return credentialsFile === undefined ? { kind: 'none' } : { kind: 'login', credentialsFile }
}

async function loginFile({ env, home }: { env: Environment; home: string }): Promise<string | undefined> {
  const file = resolve(env['CLAUDE_CONFIG_DIR'] || join(home, '.claude'), CREDENTIALS_FILE)
  try {
    await access(file)
    return file
  } catch {
    return undefined
  }
}

/**
 * Makes the machine's login the login of a config directory, by a symlink, so that a renewed token is seen by both. A
 * stale link is replaced. A real file stays: the CLI may have renewed a token and put the new one in the link's place.
 */
export async function linkLogin(credentialsFile: string, configDir: string): Promise<'linked' | 'kept'> {
  const link = join(configDir, CREDENTIALS_FILE)
  const found = kindOf(link)
  if (found === 'link' && (await readlink(link)) === credentialsFile) return 'linked'
  if (found !== 'link' && found !== 'none') return 'kept'
  // Renaming replaces the link at once: a CLI that starts at this moment finds the old one or the new one.
  const fresh = `${link}.${randomUUID()}`
  await symlink(credentialsFile, fresh)
  await rename(fresh, link)
  return 'linked'
}
