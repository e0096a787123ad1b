/** `npm run edge`: flags in, exit code out. */
import { Command, Option } from 'commander'
import { EXIT } from '../cli/exit.ts'
import { webUrl } from '../cli/options.ts'
import { report } from '../cli/report.ts'
import { routerFlags, routerOptions, type RouterFlags } from '../cli/router-flags.ts'
import { VERSION } from '../shared/version.ts'
import { edgeCommand } from './command.ts'

let exitCode: number = EXIT.ok

const program = routerFlags(
  new Command('edge')
    .description('The router as a Worker, in workerd on this machine: what `npm run deploy:workers` would put on Cloudflare.')
    .version(VERSION)
    .showHelpAfterError('(--help shows the options)')
    .exitOverride(),
)
  .addOption(
    new Option('--libsql-url <url>', 'the shared database, instead of a D1 in the data directory; its token is LIBSQL_AUTH_TOKEN')
      .env('LIBSQL_URL')
      .argParser((text) => webUrl(text.replace(/^libsql:/, 'https:')) && text),
  )
  .action(async ({ libsqlUrl, ...flags }: RouterFlags & { libsqlUrl?: string }) => {
    const libsqlAuthToken = process.env['LIBSQL_AUTH_TOKEN']
    exitCode = await edgeCommand({ ...routerOptions(flags), libsqlUrl, libsqlAuthToken })
  })

try {
  await program.parseAsync()
} catch (error) {
  exitCode = report(error)
}
// A handle that somebody forgot must not keep a finished command alive.
process.exit(exitCode)
