#!/usr/bin/env node
/**
 * The `runyard` command: flags in, one function per command, exit code out.
 *
 * What a command needs is loaded when it is asked for: a client should not wait for a database and a web server.
 */
import { Command, Option } from 'commander'
import { resolve } from 'node:path'
import type { Wanted } from '../runner/sandbox.ts'
import { VERSION } from '../shared/version.ts'
import { adminCommands } from './admin/commands.ts'
import { stdin } from './admin/secret.ts'
import { batchCommand } from './batch.ts'
import { EXIT } from './exit.ts'
import * as o from './options.ts'
import { report } from './report.ts'
import { routerFile, routerFlags, routerOptions, type RouterFlags } from './router-flags.ts'

const program = new Command('runyard')
  .description('One HTTPS endpoint in front of many machines that have the Claude Code CLI.')
  .version(VERSION)
  .showHelpAfterError('(--help shows the options)')
  .exitOverride()

let exitCode: number = EXIT.ok
const done = (code: number) => void (exitCode = code)

routerFlags(program.command('up').description('router and runner on this machine'))
  .addOption(o.claude())
  .addOption(o.workspace())
  .addOption(o.policyFile())
  .addOption(o.sandbox())
  .addOption(o.privateBaseUrls())
  .addOption(o.routerFile('--router-config'))
  .addOption(new Option('--no-demo', 'refuse to start without a login for Claude'))
  .action(
    async (
      flags: RouterFlags & {
        claude?: string
        workspace: string[]
        config?: string
        sandbox?: Wanted
        allowPrivateBaseUrl: boolean
        routerConfig?: string
        demo: boolean
      },
    ) =>
      done(
        await (
          await import('./up.ts')
        ).upCommand({
          ...routerOptions(flags),
          configFile: routerFile(flags.dataDir, flags.routerConfig),
          claude: flags.claude,
          workspaces: flags.workspace,
          config: flags.config,
          sandbox: flags.sandbox,
          allowPrivateBaseUrl: flags.allowPrivateBaseUrl,
          demo: flags.demo,
        }),
      ),
  )

routerFlags(program.command('router').description('the router alone'))
  .addOption(o.routerFile('--config'))
  .action(async ({ config, ...flags }: RouterFlags & { config?: string }) =>
    done(
      await (
        await import('./router.ts')
      ).routerCommand({ ...routerOptions(flags), configFile: routerFile(flags.dataDir, config) }),
    ),
  )

const runner = program.command('runner').description('make this machine a runner')
runner
  .command('enroll')
  .description('register this machine with a one-time token')
  .addOption(o.url().makeOptionMandatory())
  .requiredOption('--token <token>', 'one-time enrolment token; - reads it from stdin')
  .addOption(new Option('--name <name>', 'what people call the machine'))
  .addOption(new Option('--pool <pool>', 'must be the pool of the token'))
  .addOption(o.label())
  .addOption(o.claude())
  .addOption(o.dataDir())
  .addOption(new Option('--force', 'replace the identity this machine has').default(false))
  .addOption(o.json())
  .action(
    async ({
      label,
      token,
      ...flags
    }: {
      url: string
      token: string
      name?: string
      pool?: string
      label: Record<string, string>
      claude?: string
      dataDir: string
      force: boolean
      json: boolean
    }) =>
      done(
        await (
          await import('./runner.ts')
        ).enrollCommand({ ...flags, token: token === '-' ? (await stdin()).trim() : token, labels: label }),
      ),
  )
runner
  .command('start')
  .description('take runs from the router')
  .addOption(new Option('--url <url>', 'where the router is now, if not where it was at enrolment'))
  .addOption(o.claude())
  .addOption(o.workspace())
  .addOption(o.policyFile())
  .addOption(o.sandbox())
  .addOption(o.privateBaseUrls())
  .addOption(o.dataDir())
  .addOption(new Option('--demo', 'answer with the scripted model if there is no login').default(false))
  .addOption(new Option('--with-parent', 'stop when stdin ends').default(false).hideHelp())
  .addOption(o.json())
  .action(
    async ({
      workspace,
      ...flags
    }: {
      url?: string
      claude?: string
      workspace: string[]
      config?: string
      sandbox?: Wanted
      allowPrivateBaseUrl: boolean
      dataDir: string
      demo: boolean
      withParent: boolean
      json: boolean
    }) => done(await (await import('./runner.ts')).startCommand({ ...flags, workspaces: workspace })),
  )

runner
  .command('status')
  .description('who this machine is, whether its runner is connected, and the policy in force')
  .addOption(o.dataDir())
  .addOption(o.policyFile())
  .addOption(o.claude())
  .addOption(o.json())
  .action(async (flags: { dataDir: string; config?: string; claude?: string; json: boolean }) =>
    done(await (await import('./runner-status.ts')).statusCommand(flags)),
  )
runner
  .command('drain')
  .description('let the runner of this data directory finish what it runs, take nothing new, and end')
  .addOption(o.dataDir())
  .addOption(o.json())
  .action(async (flags: { dataDir: string; json: boolean }) => done(await (await import('./drain.ts')).drainCommand(flags)))

type DoctorFlags = {
  dataDir: string
  host: string
  port: number
  claude?: string
  workspace: string[]
  config?: string
  sandbox?: Wanted
  json: boolean
}
function doctorFlags(command: Command): Command {
  return command
    .addOption(o.dataDir())
    .addOption(o.host())
    .addOption(o.port())
    .addOption(o.claude())
    .addOption(o.workspace())
    .addOption(o.policyFile())
    .addOption(o.sandbox())
    .addOption(o.json())
}
doctorFlags(program.command('doctor').description('is everything in place, and if not, what to do')).action(
  async ({ workspace, ...flags }: DoctorFlags) =>
    done(await (await import('./doctor.ts')).doctorCommand({ ...flags, workspaces: workspace })),
)
doctorFlags(runner.command('doctor').description('the same for the runner alone')).action(
  async ({ workspace, ...flags }: DoctorFlags) =>
    done(await (await import('./doctor.ts')).doctorCommand({ ...flags, workspaces: workspace, only: 'runner' })),
)

program
  .command('run')
  .description('run a prompt and print the answer')
  .argument('<prompt>', 'the prompt; - reads it from stdin')
  .addOption(o.url())
  .addOption(new Option('--session <id>', 'continue this session'))
  .addOption(new Option('--fork', 'continue a copy of the session').default(false))
  .addOption(new Option('--cwd <dir>', 'directory on the runner, inside its workspace roots'))
  .addOption(new Option('--model <name>', 'model'))
  .addOption(new Option('--permission-mode <mode>', 'permission mode'))
  .addOption(new Option('--allowed-tool <rule>', 'tool that needs no asking (repeatable)').default([]).argParser(o.list))
  .addOption(new Option('--pool <pool>', 'pool of runners'))
  .addOption(o.label())
  .addOption(new Option('--timeout <duration>', 'wall time').argParser(o.duration))
  .addOption(o.dataDir())
  .addOption(new Option('--json', 'print the raw events, one JSON object a line').default(false))
  .action(
    async (
      prompt: string,
      flags: {
        url?: string
        session?: string
        fork: boolean
        cwd?: string
        model?: string
        permissionMode?: string
        allowedTool: string[]
        pool?: string
        label: Record<string, string>
        timeout?: number
        dataDir: string
        json: boolean
      },
    ) => {
      const body = {
        prompt: prompt === '-' ? await stdin() : prompt,
        session_id: flags.session,
        fork_session: flags.fork || undefined,
        cwd: flags.cwd,
        model: flags.model,
        permission_mode: flags.permissionMode,
        allowed_tools: flags.allowedTool.length > 0 ? flags.allowedTool : undefined,
        pool: flags.pool,
        labels: flags.label,
        timeout_s: flags.timeout,
        include_partial_messages: flags.json ? undefined : true,
      }
      done(await (await import('./run.ts')).runCommand({ dataDir: flags.dataDir, url: flags.url, json: flags.json, body }))
    },
  )

program
  .command('backup')
  .description("copy the router's database, also while it runs")
  .argument('<file>', 'where to; must not be there')
  .addOption(o.dataDir())
  .addOption(new Option('--with-keys', 'put the signing key and the master keys beside it').default(false))
  .addOption(o.json())
  .action(async (file: string, flags: { dataDir: string; withKeys: boolean; json: boolean }) =>
    done(await (await import('./backup.ts')).backupCommand({ ...flags, file: resolve(file) })),
  )

batchCommand(program, done)
adminCommands(program)

try {
  await program.parseAsync()
} catch (error) {
  exitCode = report(error)
}
// A handle that somebody forgot must not keep a finished command alive.
process.exit(exitCode)
