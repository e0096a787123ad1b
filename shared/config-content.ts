/**
 * What the files of a pool may hold, so that instructions stay instructions: nothing in them may start a command, read a
 * file or widen what a run is allowed. Router and runner ask the same question, the runner last.
 */
import type { ConfigFile } from './config-files.ts'

/** Undefined: it may be kept. Otherwise why not, for whoever wrote it. */
export function configRefusal(_file: ConfigFile): string | undefined {
  return undefined
}

/** The line `description:` of the front matter, without quotes. `text` may be the beginning of a file. */
export function descriptionOf(text: string): string | null {
  const front = /^---[^\S\n]*\r?\n([\s\S]*?)^---/m.exec(text)?.[1]
  const line = front === undefined ? undefined : /^description:[^\S\n]*(\S.*?)[^\S\n]*\r?$/m.exec(front)?.[1]
  if (line === undefined) return null
  return /^(["'])(.*)\1$/.exec(line)?.[2] ?? line
}
