/**
 * Whether a database refused what it was asked, which it will refuse again, or could not do it for now. Who is in doubt takes
 * it for the second: what was asked is then asked again.
 */
import { Fault } from '../../shared/faults.ts'

/** Codes that speak of the statement and not of the disk. Objects and D1 say them in the message only. */
const STATEMENT = /SQLITE_(?:ERROR|CONSTRAINT|MISMATCH|RANGE|MISUSE|TOOBIG)|constraint failed|datatype mismatch|integer overflow|too big/i

export function isRefusedStatement(error: unknown): boolean {
  // A query wraps what went wrong below it, and repeats what it was given.
  let root = error
  for (let e = error; e instanceof Error; e = e.cause) {
    if (e instanceof Fault) return false
    root = e
  }
  // A number that is no value of a database does not even get there.
  if (root instanceof RangeError || root instanceof TypeError) return true
  return root instanceof Error && STATEMENT.test(`${codeOf(root)} ${root.message}`)
}

function codeOf(error: Error): string {
  const { code } = error as { code?: unknown }
  return typeof code === 'string' ? code : ''
}
