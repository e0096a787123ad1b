/** The log of a Worker: lines of JSON for `wrangler tail` and the dashboard. Errors with their stack, nothing of a request but its id. */
import type { Log } from '../ports.ts'

export const log: Log = {
  info: (fields, message) => write('info', fields, message),
  warn: (fields, message) => write('warn', fields, message),
  error: (fields, message) => write('error', fields, message),
}

function write(level: 'info' | 'warn' | 'error', fields: object, msg: string): void {
  const line = JSON.stringify({ level, msg, ...fields }, (_key, value: unknown) =>
    value instanceof Error ? describe(value) : value,
  )
  // The console is the only way out of an isolate.
  // oxlint-disable-next-line no-console
  console[level](line)
}

function describe({ name, message, stack, cause }: Error): object {
  return { name, message, stack, ...(cause instanceof Error ? { cause: describe(cause) } : {}) }
}
