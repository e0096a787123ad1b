/** `runyard config …`: the file that seeds the settings of a router. */
import { resolve } from 'node:path'
import { Option, type Command } from 'commander'
import { z } from 'zod'
import { CliError, EXIT } from '../exit.ts'
import * as o from '../options.ts'
import { out } from '../output.ts'
import { adminFlags, openAdmin, warn, type AdminFlags } from './call.ts'

const Report = z.looseObject({
  file: z.string(),
  changed: z.boolean(),
  changes: z.array(z.string()),
  warnings: z.array(z.string()),
})

export function configCommands(program: Command): void {
  const config = program.command('config').description('the file that seeds the settings of a router')

  adminFlags(config.command('reload').description('have the router read its file again now'), 'router')
    .addOption(new Option('--force', 'apply it although it is the same, over what was set since').default(false))
    .action(async ({ force, ...flags }: AdminFlags & { force: boolean }) => {
      const admin = await openAdmin(flags)
      const report = Report.parse(await admin.send('POST', 'config/reload', { force }))
      admin.show(report, () => {
        for (const change of report.changes) out(change)
        if (report.changes.length === 0)
          out(report.changed ? `${report.file} says what is set already` : `${report.file} is as it was applied before`)
        warn(report.warnings)
      })
    })

  config
    .command('check')
    .description('whether a file is right, without a router')
    .argument('<file>', 'router.toml')
    .addOption(o.json())
    .action(async (file: string, { json }: { json: boolean }) => {
      // The router's own check, which brings half the router with it.
      const [{ ConfigError }, { readConfig }] = await Promise.all([
        import('../../router/admin/apply-config.ts'),
        import('../../router/node/config-file.ts'),
      ])
      const { config: read } = await readConfig(resolve(file), process.env).catch((error: unknown) => {
        throw error instanceof ConfigError ? new CliError(EXIT.config, error.message) : error
      })
      const [providers, tenants] = [read.providers.map(({ tenant, id }) => ({ tenant, id })), Object.keys(read.tenants)]
      if (json) out(JSON.stringify({ ok: true, providers, tenants }))
      else out(`${file} is right: ${providers.length} providers, settings of ${tenants.length} tenants`)
    })
}
