/** How a command ends: sysexits(3) numbers, so that scripts can tell "try later" from "fix your configuration". */
export const EXIT = { ok: 0, failed: 1, usage: 2, unavailable: 69, noPermission: 77, config: 78 } as const

/** Ends the command with a sentence for the person and a number for the script. */
export class CliError extends Error {
  readonly exitCode: number
  /** What to do about it, on a line of its own. */
  readonly hint: string | undefined

  constructor(exitCode: number, message: string, hint?: string) {
    super(message)
    this.name = 'CliError'
    this.exitCode = exitCode
    this.hint = hint
  }
}
