/**
 * Whether a run works in a folder that the owner trusts, and what of that folder it gets with it: the repository's
 * settings, hooks, instructions and agents, which the CLI reads itself, and the MCP servers of its `.mcp.json`.
 *
 * Those are read here and given to the CLI by name. Without `--strict-mcp-config` it would start them by itself, and with
 * them whatever an earlier run has left in its config directory.
 */
import { lstat, readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { z } from 'zod'
import { isInside, realRoots } from './workspace.ts'

export type Trust = { readonly mcpServers: Readonly<Record<string, unknown>> }

const McpFile = z.looseObject({ mcpServers: z.record(z.string(), z.unknown()) })
const MAX_BYTES = 1_048_576

/**
 * `trusted` are the owner's folders, `cwd` is a real path. Undefined: nobody trusts it. An `.mcp.json` that cannot be
 * read is told of and left out, as the CLI does with one that it finds itself; the one that is nearest to `cwd` wins.
 */
export async function trustOf(
  trusted: readonly string[],
  cwd: string,
  log: (message: string, fields: Record<string, unknown>) => void,
): Promise<Trust | undefined> {
  const root = (await realRoots(trusted)).find((folder) => isInside(folder, cwd))
  if (root === undefined) return undefined
  const found = await Promise.all(foldersBetween(root, cwd).map((folder) => mcpServersOf(join(folder, '.mcp.json'), log)))
  return { mcpServers: Object.fromEntries(found.flatMap(Object.entries)) }
}

/** From `root` down to `folder`, both included. */
function foldersBetween(root: string, folder: string): string[] {
  return folder === root ? [root] : [...foldersBetween(root, dirname(folder)), folder]
}

async function mcpServersOf(file: string, log: (message: string, fields: Record<string, unknown>) => void): Promise<object> {
  try {
    const { size } = await lstat(file)
    if (size > MAX_BYTES) throw new Error(`it has more than ${MAX_BYTES} bytes`)
    return McpFile.parse(JSON.parse(await readFile(file, 'utf8'))).mcpServers
  } catch (error) {
    const missing = error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ENOTDIR')
    if (!missing) log('a .mcp.json is left out', { file, err: error })
    return {}
  }
}
