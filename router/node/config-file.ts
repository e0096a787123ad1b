/**
 * Reading `router.toml`: the file, the keys it points to, and a fingerprint of both. A mistake is told by the name of the
 * file and of the key, never by its value.
 */
import { readFile, stat } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { parse, TomlError } from 'smol-toml'
import { z } from 'zod'
import { ConfigError, ConfigFile, FileApiKey, type FileProvider } from '../admin/apply-config.ts'

export interface ReadConfig {
  readonly config: ConfigFile
  readonly keyOf: ReadonlyMap<FileProvider, string>
  /** All that was read, keys included: hash it with the router's own key before it is kept. */
  readonly content: string
  /** Every file that was read. */
  readonly files: readonly string[]
}

/**
 * Throws a `ConfigError`. `env`: where `api_key_env` looks. `names` is told every file that the config names before any of
 * them is read: what is wrong with one of them may be put right.
 */
export async function readConfig(
  file: string,
  env: NodeJS.ProcessEnv,
  names: (files: readonly string[]) => Promise<void> = () => Promise.resolve(),
): Promise<ReadConfig> {
  const text = await read(file, 'the config file')
  const config = parseConfig(text, file)
  const pathOf = (keyFile: string) => resolve(dirname(file), keyFile)
  const files = [file, ...config.providers.flatMap(({ api_key_file: keyFile }) => (keyFile === undefined ? [] : [pathOf(keyFile)]))]
  await names(files)
  if (config.providers.some((provider) => provider.api_key !== undefined)) await mustBePrivate(file)
  const keyOf = new Map<FileProvider, string>()
  for (const provider of config.providers) {
    const { id, api_key_file: keyFile, api_key_env: name } = provider
    if (keyFile !== undefined) keyOf.set(provider, await keyFrom(pathOf(keyFile), `${file}: providers.${id}.api_key_file`))
    if (name !== undefined) keyOf.set(provider, checkKey(env[name], `${file}: providers.${id}.api_key_env: ${name}`))
  }
  return { config, keyOf, files, content: JSON.stringify([text, ...keyOf.values()]) }
}

/** `file` is for the message, and its ending tells JSON from TOML. Throws a `ConfigError`. */
export function parseConfig(text: string, file: string): ConfigFile {
  const table = file.endsWith('.json') ? parseJson(text, file) : parseToml(text, file)
  const parsed = ConfigFile.safeParse(table)
  if (parsed.success) return parsed.data
  const [issue] = parsed.error.issues
  const path = named(table, issue?.path ?? [])
  if (issue?.code === 'unrecognized_keys') {
    const where = path === '' ? file : `${file}: ${path}`
    throw new ConfigError(
      `${where}: there is no setting ${issue.keys.join(', ')}; there are ${keysAt(ConfigFile, issue.path).join(', ')}`,
    )
  }
  throw new ConfigError(`${file}: ${path || 'the file'}: ${issue?.message ?? 'is not valid'}`)
}

function parseToml(text: string, file: string): unknown {
  try {
    return parse(text)
  } catch (error) {
    if (!(error instanceof TomlError)) throw error
    // Its message quotes the line, which may hold a key.
    throw new ConfigError(`${file}: line ${error.line} is not valid TOML`)
  }
}

function parseJson(text: string, file: string): unknown {
  try {
    return JSON.parse(text) as unknown
  } catch {
    throw new ConfigError(`${file} is not valid JSON`)
  }
}

/** `providers.main.weight` instead of `providers.0.weight`. */
function named(table: unknown, path: readonly PropertyKey[]): string {
  const names: string[] = []
  let at = table
  for (const key of path) {
    at = (Object(at) as Record<PropertyKey, unknown>)[key]
    const { id } = Object(at) as { id?: unknown }
    names.push(typeof key === 'number' && typeof id === 'string' ? id : String(key))
  }
  return names.join('.')
}

/** The names of the settings of a table. */
function keysAt(schema: z.ZodType, path: readonly PropertyKey[]): string[] {
  let at: unknown = schema
  for (const key of [...path, undefined]) {
    while (at instanceof z.ZodOptional || at instanceof z.ZodDefault || at instanceof z.ZodNullable) at = at.unwrap()
    if (key === undefined) break
    if (at instanceof z.ZodObject) at = (at.shape as Record<PropertyKey, unknown>)[key]
    else if (at instanceof z.ZodArray) at = at.element
    else if (at instanceof z.ZodRecord) at = at.valueType
  }
  return at instanceof z.ZodObject ? Object.keys(at.shape) : []
}

async function keyFrom(path: string, where: string): Promise<string> {
  const text = await read(path, where)
  await mustBePrivate(path)
  return checkKey(text.trim(), where)
}

function checkKey(key: string | undefined, where: string): string {
  if (key === undefined || key === '') throw new ConfigError(`${where} is empty or not set`)
  const parsed = FileApiKey.safeParse(key)
  if (!parsed.success) throw new ConfigError(`${where}: ${parsed.error.issues[0]?.message ?? 'is no key'}`)
  return parsed.data
}

async function read(path: string, what: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    const missing = error instanceof Error && 'code' in error && error.code === 'ENOENT'
    throw new ConfigError(`${what}: ${path} ${missing ? 'is not there' : 'cannot be read'}`, { cause: error })
  }
}

async function mustBePrivate(path: string): Promise<void> {
  const { mode } = await stat(path)
  if ((mode & 0o077) === 0) return
  throw new ConfigError(
    `${path} holds a key and can be read by others (mode ${(mode & 0o777).toString(8)}): \`chmod 600\` it, or use api_key_env`,
  )
}
