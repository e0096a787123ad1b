/** The flags that every router has, wherever it is hosted. */
import { join } from 'node:path'
import { Option, type Command } from 'commander'
import type { RouterOptions } from '../router/node/server.ts'
import * as o from './options.ts'

export function routerFlags(command: Command): Command {
  return command
    .addOption(o.host())
    .addOption(o.port())
    .addOption(o.dataDir())
    .addOption(new Option('--public-url <url>', 'where clients reach the router, if not where it listens').argParser(o.webUrl))
    .addOption(new Option('--allow-host <name>', 'further host name to answer to (repeatable)').default([]).argParser(o.list))
    .addOption(new Option('--cors-origin <origin>', 'web origin that may call (repeatable)').default([]).argParser(o.list))
    .addOption(new Option('--timeout <duration>', 'default wall time of a run').default(3_600, '1h').argParser(o.duration))
    .addOption(
      new Option('--keep <duration>', 'how long the events of an ended run are kept')
        .default(30 * 86_400, '30d')
        .argParser(o.duration),
    )
    .addOption(
      new Option('--keep-bytes <size>', 'and how much of all ended runs').default(10 * 1_024 ** 3, '10GiB').argParser(o.size),
    )
    .addOption(o.json())
}

export type RouterFlags = {
  host: string
  port: number
  dataDir: string
  publicUrl?: string
  allowHost: string[]
  corsOrigin: string[]
  timeout: number
  keep: number
  keepBytes: number
  json: boolean
}

export const routerOptions = ({ allowHost, corsOrigin, timeout, keep, keepBytes, ...rest }: RouterFlags) => ({
  ...rest,
  allowedHosts: allowHost,
  corsOrigins: corsOrigin,
  timeoutS: timeout,
  keep: { ageMs: keep * 1_000, bytes: keepBytes },
})

/** The file that was named, or the one that may be in the data directory. */
export const routerFile = (dataDir: string, named: string | undefined): NonNullable<RouterOptions['configFile']> => ({
  path: named ?? join(dataDir, 'router.toml'),
  required: named !== undefined,
})
