/**
 * The directory of a run as claude-code-server takes it: inside its one workspace, and never by an absolute path.
 *
 * This is the rule of the name only. Where it leads, symlinks and all, is looked at on the machine.
 */
import { Fault } from '../../../shared/faults.ts'
import { OUTSIDE } from './words.ts'

/** The workspace itself, for who names none. */
export const WORKSPACE = '.'

// oxlint-disable-next-line no-control-regex -- control characters are what is looked for
const NEVER = /^[/\\]|^[A-Za-z]:|[\u0000-\u001f\u007f]/

/** Without dots in it. Throws `cwd`. */
export function insideWorkspace(path: string): string {
  const kept: string[] = []
  if (NEVER.test(path)) throw new Fault('cwd', OUTSIDE)
  for (const part of path.split(/[/\\]/)) {
    if (part === '..' && kept.pop() === undefined) throw new Fault('cwd', OUTSIDE)
    if (part !== '..' && part !== '.' && part !== '') kept.push(part)
  }
  return kept.length === 0 ? WORKSPACE : kept.join('/')
}

/** A directory of a session: `real` is its path on the machine, null before its first run; `name` what it was begun with here. */
export interface Home {
  readonly real: string | null
  readonly name: string | undefined
}

/** Whether this name is that of the directory of a session. */
export function isHome(name: string, home: Home): boolean {
  // Nothing here knows the workspace of a machine. Of a session that was begun elsewhere it can only be said that it may be there;
  // the end of its path may be that of another folder.
  return name === (home.name ?? home.real) || (home.name === undefined && name === WORKSPACE)
}
