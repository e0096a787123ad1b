/** How a key reaches a command: from a file, from stdin or from the environment, never as an argument. */
import { readFile } from 'node:fs/promises'
import { Option, type Command } from 'commander'
import { CliError, EXIT } from '../exit.ts'

export interface KeyFlags {
  readonly keyFile?: string
  readonly keyEnv?: string
  readonly key?: string
}

export function keyFlags(command: Command): Command {
  return command
    .addOption(new Option('--key-file <file>', 'file that holds the key; - reads it from stdin'))
    .addOption(new Option('--key-env <name>', 'environment variable that holds the key').conflicts('keyFile'))
    .addOption(new Option('--key [key]', 'refused').hideHelp())
}

/** Undefined: none was given. */
export async function keyOf({ keyFile, keyEnv, key }: KeyFlags): Promise<string | undefined> {
  if (key !== undefined) {
    throw new CliError(
      EXIT.usage,
      'a key does not belong on a command line: everybody on this machine can read it there, and the shell keeps it',
      'use --key-file <file>, --key-file - for stdin, or --key-env <name>; and change the key if it is a real one',
    )
  }
  if (keyEnv !== undefined) return checked(process.env[keyEnv], `the environment variable ${keyEnv}`)
  if (keyFile === '-') return checked(await stdin(), 'stdin')
  if (keyFile === undefined) return undefined
  const text = await readFile(keyFile, 'utf8').catch((error: unknown) => {
    throw new CliError(
      EXIT.usage,
      `${keyFile} cannot be read: ${error instanceof Error && 'code' in error ? String(error.code) : 'unknown'}`,
    )
  })
  return checked(text, keyFile)
}

function checked(text: string | undefined, where: string): string {
  const key = text?.trim() ?? ''
  if (key === '') throw new CliError(EXIT.usage, `${where} holds no key`)
  return key
}

export async function stdin(): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of process.stdin) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks).toString()
}
