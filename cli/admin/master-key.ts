/**
 * `runyard key rotate-master` and `key forget-master`: the ring of master keys is a file of the router's data directory, so
 * these work on the router's machine. A router that runs there follows the file.
 */
import type { Command } from 'commander'
import { setTimeout as sleep } from 'node:timers/promises'
import { z } from 'zod'
import { addMasterKey, dropOldMasterKeys, MASTER_KEY_FILE, newestMasterKey } from '../../router/node/master-key.ts'
import { readClientFile } from '../../router/node/data-dir.ts'
import { CliError, EXIT } from '../exit.ts'
import { out } from '../output.ts'
import { adminFlags, openAdmin, type AdminFlags } from './call.ts'

const Master = z.object({ kid: z.string(), waiting: z.int() })
const PATIENCE_MS = 15_000
const LOOK_MS = 250

export function masterKeyCommands(key: Command): void {
  adminFlags(key.command('rotate-master').description('seal secrets with a new master key; the old ones stay until they are forgotten'), 'router').action(
    async (flags: AdminFlags) => {
      await mustBeHere(flags)
      const kid = await addMasterKey(flags.dataDir)
      const sealed = await untilSealed(flags, kid)
      const then = sealed
        ? 'everything is sealed with it; `runyard key forget-master` takes the old ones away'
        : 'a router that starts on this directory seals everything with it; then `runyard key forget-master` takes the old ones away'
      if (flags.json) out(JSON.stringify({ kid, sealed }))
      else out(`there is a new master key in ${MASTER_KEY_FILE}: ${then}`)
    },
  )
  adminFlags(key.command('forget-master').description('take old master keys away, once nothing is sealed with them'), 'router').action(
    async (flags: AdminFlags) => {
      const kid = await mustBeHere(flags)
      const master = await askRouter(flags)
      if (!master) throw new CliError(EXIT.unavailable, 'only a router that runs can say that nothing is sealed with the old keys', 'start it and try again')
      if (master.kid !== kid) throw new CliError(EXIT.failed, 'the router that answers seals with another master key than the one of this directory')
      if (master.waiting > 0) throw new CliError(EXIT.failed, `${master.waiting} secrets are sealed with older keys still`, 'the log of the router says why')
      const forgotten = await dropOldMasterKeys(flags.dataDir)
      if (flags.json) out(JSON.stringify({ kid, forgotten }))
      else out(forgotten === 0 ? 'there was no older master key' : `older master keys taken away: ${forgotten}`)
    },
  )
}

async function mustBeHere({ dataDir }: AdminFlags): Promise<string> {
  return newestMasterKey(dataDir).catch((error: unknown) => {
    throw new CliError(EXIT.config, error instanceof Error ? error.message : String(error), 'name the data directory of the router with --data-dir')
  })
}

/** Undefined: nobody answers. */
async function askRouter(flags: AdminFlags): Promise<z.infer<typeof Master> | undefined> {
  if (flags.url === undefined && !(await readClientFile(flags.dataDir))) return undefined
  try {
    return Master.parse(await (await openAdmin(flags)).send('GET', 'keys/master'))
  } catch (error) {
    if (error instanceof CliError && error.exitCode === EXIT.unavailable) return undefined
    throw error
  }
}

async function untilSealed(flags: AdminFlags, kid: string): Promise<boolean> {
  for (const end = Date.now() + PATIENCE_MS; Date.now() < end; await sleep(LOOK_MS)) {
    const master = await askRouter(flags)
    if (!master) return false
    if (master.kid === kid && master.waiting === 0) return true
  }
  return false
}
