/** How a command that failed says so, in words or as a line of JSON. */
import { CommanderError } from 'commander'
import { CliError, EXIT } from './exit.ts'
import { bold, out, say } from './output.ts'

/** Prints it and returns the exit code. */
export function report(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage
  const message = error instanceof Error ? error.message : String(error)
  const known = error instanceof CliError
  if (process.argv.includes('--json')) {
    out(
      JSON.stringify({
        event: 'error',
        message,
        exit_code: known ? error.exitCode : EXIT.failed,
        ...(known && error.hint ? { hint: error.hint } : {}),
      }),
    )
  } else {
    say(`${bold('runyard')}: ${message}`)
    if (known && error.hint) say(`  → ${error.hint}`)
  }
  return known ? error.exitCode : EXIT.failed
}
