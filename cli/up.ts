/**
 * `runyard up`: everything on one machine. The router runs in this process, the runner in a second one that enrols the
 * normal way, so that what works here works the same with runners elsewhere.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { z } from 'zod'
import { readClientFile } from '../router/node/data-dir.ts'
import { findRunner } from '../router/store/runners.ts'
import { enroll } from '../runner/enroll.ts'
import { loadIdentity } from '../runner/identity.ts'
import { localLogin } from '../runner/login.ts'
import type { Wanted } from '../runner/sandbox.ts'
import type { RunningRouter } from '../router/node/server.ts'
import { CliError, EXIT } from './exit.ts'
import { bold, createLog, dim, out, say } from './output.ts'
import { openRouter, printReady, type RouterCommand } from './router.ts'
import { home, machineName, requireClaude, runnerStateDir } from './runner.ts'
import { untilSignal } from './signals.ts'

export interface UpCommand extends RouterCommand {
  readonly claude?: string | undefined
  readonly workspaces: readonly string[]
  readonly config?: string | undefined
  readonly sandbox?: Wanted | undefined
  readonly allowPrivateBaseUrl: boolean
  readonly demo: boolean
}

const CONNECT_MS = 20_000
const RESTART_MS = 1_000
/** The runner needs at most this for its own orderly end. */
const RUNNER_STOP_MS = 8_500

export async function upCommand(command: UpCommand): Promise<number> {
  const log = createLog({ json: command.json, name: 'router' })
  const claude = await requireClaude(command.claude)
  const login = await localLogin({ env: process.env, home: home() })
  const demo = login.kind === 'none'
  if (demo && !command.demo) {
    throw new CliError(
      EXIT.config,
      'this machine has no login for Claude',
      'run `claude` once and log in, or set ANTHROPIC_API_KEY; without --no-demo the scripted demo model answers',
    )
  }
  const before = await readClientFile(command.dataDir)
  const { router, client } = await openRouter(command, log)
  let child: Runner | undefined
  try {
    const stateDir = runnerStateDir(command.dataDir)
    const id = await enrolHere(router, client.admin_token, stateDir, before?.url)
    child = superviseRunner(command, client.url, claude)
    await child.connected(async () => (await router.deps.hub.load()).runners > 0)
    if (command.json) printReady(client, command.dataDir)
    else introduce(client, { claude, demo, id, dataDir: command.dataDir })
    const running = child
    await Promise.race([untilSignal(() => running.kill()), running.failed])
    say('stopping; a second Ctrl-C ends at once')
  } finally {
    await child?.stop()
    await router.close()
  }
  return EXIT.ok
}

/** Enrols the runner of this data directory if the router does not know it yet. */
async function enrolHere(
  router: RunningRouter,
  adminToken: string,
  stateDir: string,
  formerUrl: string | undefined,
): Promise<string> {
  const known = await loadIdentity(stateDir).catch(() => undefined)
  if (known) {
    const row = await findRunner(router.deps.store.db, known.runnerId)
    if (row && row.revokedAt === null) return known.runnerId
    // Its keys cannot be had back, so only an identity of this very router is made anew.
    if (!row && known.url !== formerUrl && known.url !== router.url) {
      throw new CliError(
        EXIT.config,
        `${stateDir} holds the identity of a runner of ${known.url}`,
        'name another --data-dir for `up`, or remove that folder to give the identity up',
      )
    }
  }
  const response = await fetch(`${router.url}/admin/v1/enrolment-tokens`, {
    method: 'POST',
    headers: { authorization: `Bearer ${adminToken}`, 'content-type': 'application/json' },
    body: '{}',
  })
  const { token } = z.object({ token: z.string() }).parse(await response.json())
  return (await enroll({ url: router.url, token, name: machineName(), labels: {}, stateDir, force: true })).runner_id
}

type Runner = {
  connected(online: () => Promise<boolean>): Promise<void>
  stop(): Promise<void>
  kill(): void
  failed: Promise<never>
}

/** Keeps the runner's process up. It ends by itself when this process is gone, because its stdin ends then. */
function superviseRunner(command: UpCommand, url: string, claude: string): Runner {
  const main = process.argv[1] ?? ''
  const args = [
    main,
    'runner',
    'start',
    `--data-dir=${command.dataDir}`,
    `--url=${url}`,
    `--claude=${claude}`,
    ...command.workspaces.map((dir) => `--workspace=${dir}`),
    ...(command.config === undefined ? [] : [`--config=${command.config}`]),
    ...(command.sandbox === undefined ? [] : [`--sandbox=${command.sandbox}`]),
    ...(command.allowPrivateBaseUrl ? ['--allow-private-base-url'] : []),
    ...(command.demo ? ['--demo'] : []),
    ...(command.json ? ['--json'] : []),
    '--with-parent',
  ]
  let child: ChildProcess
  let stopping = false
  let fail: (error: Error) => void = () => undefined
  const failed = new Promise<never>((_resolve, reject) => (fail = reject))
  failed.catch(() => undefined)
  const start = () => {
    // Its own process group: a Ctrl-C in the terminal is ours to pass on, once. stdout is ours alone, so its goes to stderr.
    child = spawn(process.execPath, args, { stdio: ['pipe', 2, 2], detached: true })
    child.once('exit', (code, signal) => {
      if (stopping) return
      if (code === EXIT.config || code === EXIT.noPermission || code === EXIT.usage)
        return fail(new CliError(code, 'the runner could not start; see above'))
      if (code === EXIT.ok) return say('the runner was told to end; the router goes on without it')
      say(`the runner ended (${signal ?? code}); starting it again`)
      setTimeout(() => !stopping && start(), RESTART_MS)
    })
  }
  start()
  const gone = () =>
    new Promise<void>((resolve) =>
      child.exitCode !== null || child.signalCode !== null ? resolve() : void child.once('exit', () => resolve()),
    )
  return {
    failed,
    async connected(online) {
      const end = performance.now() + CONNECT_MS
      while (!(await Promise.race([online(), failed]))) {
        if (performance.now() > end)
          throw new CliError(EXIT.unavailable, 'the runner did not connect', '`runyard doctor` looks for the reason')
        await new Promise((resolve) => setTimeout(resolve, 20))
      }
    },
    async stop() {
      stopping = true
      child.kill('SIGTERM')
      const force = setTimeout(() => child.kill('SIGKILL'), RUNNER_STOP_MS)
      await gone()
      clearTimeout(force)
    },
    // Its second signal: it takes its processes with it, which a SIGKILL would leave behind where there is no PID namespace.
    kill: () => void child.kill('SIGTERM'),
  }
}

function introduce(
  client: { url: string; token: string },
  facts: { claude: string; demo: boolean; id: string; dataDir: string },
): void {
  out(`${bold('Runyard')} is ready at ${client.url}`)
  out(`  runner     ${facts.id} with ${facts.claude}`)
  if (facts.demo) {
    out(`  provider   ${bold('demo')}: no login for Claude was found, so a scripted model answers.`)
    out('             Log in with `claude`, or set ANTHROPIC_API_KEY, and start again for the real one.')
  } else out('  provider   local: the login of this machine')
  out(`  app token  ${client.token}`)
  out(`  ${dim(`the admin token is in ${facts.dataDir}/client.json`)}`)
  out('')
  out('Try it:')
  out(`  curl -N ${client.url}/v1/runs -H 'authorization: Bearer ${client.token}' \\`)
  out(
    `    -H 'content-type: application/json' -H 'accept: text/event-stream' -d '{"prompt":"Write hello.txt with a greeting.","permission_mode":"acceptEdits"}'`,
  )
  out('or `runyard run "Say hello."` in another terminal. Ctrl-C stops.')
}
