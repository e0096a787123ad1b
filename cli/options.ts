/** Flags that several commands share, and the words that a bad value is answered with. */
import { InvalidArgumentError, Option } from 'commander'
import { resolve } from 'node:path'
import { defaultDataDir } from '../router/node/data-dir.ts'
import { SANDBOXES } from '../runner/sandbox.ts'

export const dataDir = () =>
  new Option('--data-dir <dir>', 'where state is kept').default(defaultDataDir(), 'XDG state').argParser((v) => resolve(v))
export const json = () => new Option('--json', 'machine-readable output').default(false)
export const host = () => new Option('--host <address>', 'address to listen on').default('127.0.0.1')
export const port = () => new Option('--port <n>', 'port to listen on; 0: any').default(8787).argParser(integer(0, 65_535))
export const claude = () => new Option('--claude <path>', 'the Claude Code CLI')
export const workspace = () =>
  new Option('--workspace <dir>', 'root that runs may work in (repeatable)')
    .default([])
    .argParser((v, all: string[]) => [...all, resolve(v)])
export const policyFile = () => new Option('--config <file>', "the owner's policy, runner.toml").argParser((v) => resolve(v))
export const routerFile = (flag: string) =>
  new Option(`${flag} <file>`, 'settings of the router; <data-dir>/router.toml unless given').argParser((v) => resolve(v))
export const sandbox = () =>
  new Option('--sandbox <mode>', 'what runs are kept in, instead of what the policy says').choices(SANDBOXES)
export const privateBaseUrls = () =>
  new Option('--allow-private-base-url', 'providers may be at addresses of this network, whatever the policy says').default(false)
export const url = () => new Option('--url <url>', 'the router').env('RUNYARD_URL')
export const label = () => new Option('--label <k=v>', 'label to be chosen by (repeatable)').default({}).argParser(pair)

export function webUrl(text: string): string {
  const parsed = URL.canParse(text) ? new URL(text) : undefined
  if (!parsed || !/^https?:$/.test(parsed.protocol) || parsed.username || parsed.search || parsed.hash) {
    throw new InvalidArgumentError('must look like https://runs.example.com')
  }
  return text
}

export function integer(min: number, max: number) {
  return (text: string): number => {
    const n = Number(text)
    if (!/^\d+$/.test(text) || n < min || n > max) throw new InvalidArgumentError(`must be a whole number from ${min} to ${max}`)
    return n
  }
}

export function pair(text: string, all: Record<string, string>): Record<string, string> {
  const at = text.indexOf('=')
  if (at < 1) throw new InvalidArgumentError('must look like key=value')
  return { ...all, [text.slice(0, at)]: text.slice(at + 1) }
}

export function list(text: string, all: string[]): string[] {
  return [...all, text]
}

/** `500000`, `500MB` or `10GiB`, in bytes. */
export function size(text: string): number {
  const match = /^(\d{1,15})(?:([kmgt])(i?)b|b)?$/i.exec(text)
  if (!match) throw new InvalidArgumentError('must look like 500MB or 10GiB')
  const power = match[2] ? 'kmgt'.indexOf(match[2].toLowerCase()) + 1 : 0
  return Number(match[1]) * (match[3] ? 1_024 : 1_000) ** power
}

/** `90`, `15m`, `12h` or `30d`, in seconds. */
export function duration(text: string): number {
  const match = /^(\d+)([smhd]?)$/.exec(text)
  if (!match) throw new InvalidArgumentError('must look like 90s, 15m, 12h or 30d')
  const unit = { s: 1, m: 60, h: 3_600, d: 86_400 }[match[2] || 's'] ?? 1
  return Number(match[1]) * unit
}
