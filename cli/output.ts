/**
 * What a person or a script gets to see. stdout carries the answer and nothing else; everything said on the way goes
 * to stderr, as JSON lines with `--json`.
 */
import pino from 'pino'
import type { Log } from '../router/ports.ts'

// `runyard run … | head -1` closes our stdout while we still write; that is no error of ours.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error
  process.exit(0)
})

export function out(text: string): void {
  process.stdout.write(`${text}\n`)
}

export function say(text: string): void {
  process.stderr.write(`${text}\n`)
}

export const colour = (process.stderr.isTTY ?? false) && !process.env['NO_COLOR']
export const dim = (text: string) => (colour ? `\u001B[2m${text}\u001B[22m` : text)
export const bold = (text: string) => (colour ? `\u001B[1m${text}\u001B[22m` : text)

/** Names under which a secret could reach a log by accident. */
const SECRETS = ['token', 'authorization', 'api_key', 'apiKey', 'password', 'assertion', 'prompt']
const redact = { paths: SECRETS.flatMap((name) => [name, `*.${name}`]), censor: '[redacted]' }

export function createLog(options: { json: boolean; name: string; level?: string }): Log {
  const base = {
    name: options.name,
    level: options.level ?? process.env['RUNYARD_LOG'] ?? (options.json ? 'info' : 'warn'),
    redact,
  }
  if (options.json) return pino(base, pino.destination({ dest: 2, sync: true }))
  return pino(base, { write: (line) => process.stderr.write(`${readable(line)}\n`) })
}

const LEVELS: Record<number, string> = { 10: 'trace', 20: 'debug', 30: 'info', 40: 'warning', 50: 'error', 60: 'fatal' }

function readable(line: string): string {
  const {
    level,
    name,
    msg,
    err,
    time: _time,
    pid: _pid,
    hostname: _host,
    ...fields
  } = JSON.parse(line) as Record<string, unknown>
  const rest = Object.entries(fields).map(([key, value]) => `${key}=${typeof value === 'string' ? value : JSON.stringify(value)}`)
  const error = typeof err === 'object' && err !== null && 'message' in err ? [String(err.message)] : []
  return dim([`${String(name)}: ${LEVELS[Number(level)] ?? ''}: ${String(msg)}`, ...error, ...rest].join('  '))
}
