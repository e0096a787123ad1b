/** `runyard doctor`: is everything in place on this machine, and if not, what to do. Each line stands for itself. */
import { access, constants, realpath, stat } from 'node:fs/promises'
import { connect } from 'node:net'
import { dirname, join } from 'node:path'
import { loadKeys, readClientFile } from '../router/node/data-dir.ts'
import { openDatabase, proveCommit } from '../router/node/database.ts'
import { claudeVersion, findClaude, INSTALL_HINT } from '../runner/claude-binary.ts'
import { rootsAround } from '../runner/closed-folders.ts'
import { loadIdentity } from '../runner/identity.ts'
import { localLogin } from '../runner/login.ts'
import { loadPolicy } from '../runner/policy.ts'
import { detect, SandboxError, type Sandbox, type Wanted } from '../runner/sandbox.ts'
import { isLoopback } from '../router/guard/host.ts'
import { EXIT } from './exit.ts'
import { bold, out } from './output.ts'
import { defaultPolicyFile, defaultWorkspace, home, runnerStateDir } from './runner.ts'

export interface DoctorCommand {
  readonly dataDir: string
  readonly host: string
  readonly port: number
  readonly claude?: string | undefined
  readonly workspaces: readonly string[]
  readonly config?: string | undefined
  readonly sandbox?: Wanted | undefined
  readonly json: boolean
  readonly only?: 'runner'
}

/** `warn`: works, but somebody should know. */
type Check = { part: 'router' | 'runner'; name: string; status: 'ok' | 'warn' | 'fail'; detail: string; fix?: string }

export async function doctorCommand(command: DoctorCommand): Promise<number> {
  const checks = [...(command.only === 'runner' ? [] : await routerChecks(command)), ...(await runnerChecks(command))]
  const failed = checks.some((c) => c.status === 'fail')
  if (command.json) out(JSON.stringify({ ok: !failed, checks }))
  else {
    for (const { part, name, status, detail, fix } of checks) {
      out(`${status === 'ok' ? 'ok  ' : bold(status === 'warn' ? 'note' : 'FAIL')}  ${part} ${name}: ${detail}`)
      if (fix !== undefined && status !== 'ok') out(`      → ${fix}`)
    }
  }
  return failed ? EXIT.config : EXIT.ok
}

async function routerChecks({ dataDir, host, port }: DoctorCommand): Promise<Check[]> {
  const part = 'router'
  const client = await readClientFile(dataDir)
  const running = client ? await answers(client.url) : false
  if (!(await exists(dataDir)))
    return [
      {
        part,
        name: 'data dir',
        status: 'warn',
        detail: `${dataDir} is not there yet`,
        fix: '`runyard up` or `runyard router` makes it',
      },
    ]
  const checks: Check[] = [await writableDir(part, 'data dir', dataDir)]
  checks.push(
    await check(
      part,
      'keys',
      async () => `signing key ${(await loadKeys(dataDir)).kid}`,
      `see the message; the key is in ${dataDir}`,
    ),
  )
  if (client && running) {
    checks.push(await check(part, 'database commit', () => readyz(client.url), "is the disk full? see the router's log"))
    checks.push({ part, name: 'port', status: 'ok', detail: `this router answers at ${client.url}` })
    return checks
  }
  checks.push(
    await check(
      part,
      'database commit',
      async () => {
        const database = await openDatabase(join(dataDir, 'runyard.db'))
        try {
          await proveCommit(database, Date.now())
        } finally {
          await database.close()
        }
        return `${dataDir}/runyard.db takes writes`
      },
      "is the disk full, or the file somebody else's?",
    ),
  )
  const taken = port !== 0 && (await listens(host, port))
  checks.push(
    taken
      ? {
          part,
          name: 'port',
          status: 'fail',
          detail: `something else listens on ${host}:${port}`,
          fix: 'stop it, or choose with --port',
        }
      : { part, name: 'port', status: 'ok', detail: `${host}:${port} is free; the router is not running` },
  )
  return checks
}

async function runnerChecks(command: DoctorCommand): Promise<Check[]> {
  const part = 'runner'
  const { dataDir } = command
  const checks: Check[] = []
  const claude = await findClaude({ explicit: command.claude, env: process.env, home: home() }).catch(() => undefined)
  const version = claude === undefined ? undefined : await claudeVersion(claude)
  checks.push(
    version === undefined
      ? {
          part,
          name: 'claude',
          status: 'fail',
          detail: claude === undefined ? 'the CLI was not found' : `${claude} does not run`,
          fix: INSTALL_HINT,
        }
      : { part, name: 'claude', status: 'ok', detail: `${claude} ${version}` },
  )
  const login = await localLogin({ env: process.env, home: home() })
  checks.push(
    login.kind === 'none'
      ? {
          part,
          name: 'login',
          status: 'warn',
          detail: 'none; `runyard up` answers with the demo model',
          fix: 'run `claude` once and log in, or set ANTHROPIC_API_KEY',
        }
      : {
          part,
          name: 'login',
          status: 'ok',
          detail: login.kind === 'env' ? `from ${Object.keys(login.env).join(', ')}` : login.credentialsFile,
        },
  )
  let roots = [...command.workspaces]
  let wanted = command.sandbox ?? 'auto'
  checks.push(
    await check(
      part,
      'policy',
      async () => {
        const file = command.config ?? defaultPolicyFile(dataDir)
        const policy = await loadPolicy(file, { required: command.config !== undefined })
        roots = [...roots, ...policy.workspaces]
        wanted = command.sandbox ?? policy.sandbox
        return `${policy.slots} slots, bypass ${policy.bypass ? 'allowed' : 'refused'}`
      },
      'mend the file; the message names the key',
    ),
  )
  for (const root of roots.length > 0 ? roots : [defaultWorkspace(dataDir)])
    checks.push(wanted === 'bwrap' ? await writableDir(part, 'workspace', root) : await openWorkspace(root, dataDir))
  // The CLI says nothing when it cannot keep a session, so a later turn would find none.
  checks.push(await writableDir(part, 'config dir', join(runnerStateDir(dataDir), 'config')))
  checks.push(await sandbox(wanted, claude))
  const identity = await loadIdentity(runnerStateDir(dataDir)).catch((error: unknown) =>
    error instanceof Error ? error : new Error(String(error)),
  )
  if (identity instanceof Error)
    checks.push({
      part,
      name: 'identity',
      status: 'fail',
      detail: identity.message,
      fix: 'enrol anew with `runyard runner enroll --force`',
    })
  else if (!identity)
    checks.push({
      part,
      name: 'identity',
      status: 'warn',
      detail: 'not enrolled',
      fix: '`runyard up` does it, or `runyard runner enroll --url … --token …`',
    })
  else {
    // `up` may have moved the router of this data directory to another port; one elsewhere stays where it was.
    const own = isLoopback(new URL(identity.url).hostname) ? (await readClientFile(dataDir))?.url : undefined
    const url = own ?? identity.url
    const reached = await answers(url)
    checks.push({ part, name: 'identity', status: 'ok', detail: `${identity.runnerId} in pool ${identity.pool}` })
    checks.push({
      part,
      name: 'router',
      status: reached ? 'ok' : 'warn',
      detail: `${url} ${reached ? 'answers' : 'does not answer'}`,
      fix: 'start it with `runyard up` or `runyard router`, or check the network',
    })
  }
  return checks
}

/** What isolates a run from this machine, said plainly. */
async function sandbox(wanted: Wanted, claude: string | undefined): Promise<Check> {
  const line = { part: 'runner', name: 'sandbox' } as const
  // Only whether it works is asked, so without a CLI any program will do.
  const found = await detect(wanted, { env: process.env, claude: claude ?? process.execPath }).catch((error: unknown) => error)
  if (found instanceof SandboxError) return { ...line, status: 'fail', detail: found.message, fix: found.hint }
  if (found instanceof Error) return { ...line, status: 'fail', detail: found.message }
  const { mode, means } = found as Sandbox
  const root = process.getuid?.() === 0 ? ', which is root' : ''
  const detail = `${mode}${wanted === 'auto' ? ' (auto)' : ''}: ${means.replace('of this user', `of this user${root}`)}`
  if (mode === 'bwrap') return { ...line, status: 'ok', detail }
  return {
    ...line,
    status: 'warn',
    detail,
    fix: 'use a user of its own for the runner, or `sandbox = "bwrap"`, which shows a run nothing but its workspace',
  }
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  )
}

/** The path itself, or the first folder above it that exists: a question should not make what it asks for. */
async function nearest(path: string): Promise<string> {
  return (await exists(path)) || dirname(path) === path ? path : nearest(dirname(path))
}

async function writableDir(part: Check['part'], name: string, path: string): Promise<Check> {
  return check(
    part,
    name,
    async () => {
      const there = await nearest(path)
      if (!(await stat(there)).isDirectory()) throw new Error(`${there} is not a directory`)
      await access(there, constants.W_OK | constants.X_OK)
      return there === path ? path : `${path} will be made`
    },
    `make ${path} writable for this user`,
  )
}

/** A root around the folders of the runner: its keys are a folder of the workspace then. */
async function openWorkspace(root: string, dataDir: string): Promise<Check> {
  const found = await writableDir('runner', 'workspace', root)
  const [real, ...closed] = await Promise.all([root, dataDir, runnerStateDir(dataDir)].map((path) => realpath(path).catch(() => path)))
  if (found.status !== 'ok' || real === undefined || rootsAround([real], closed).length === 0) return found
  const detail = `${root} has the data directory ${dataDir} in it, where commands of a run can read the keys`
  return { ...found, status: 'warn', detail, fix: 'name a workspace beside it, or use `sandbox = "bwrap"`, which hides it' }
}

async function check(part: Check['part'], name: string, probe: () => Promise<string>, fix: string): Promise<Check> {
  try {
    return { part, name, status: 'ok', detail: await probe() }
  } catch (error) {
    return { part, name, status: 'fail', detail: error instanceof Error ? error.message : String(error), fix }
  }
}

async function answers(url: string): Promise<boolean> {
  const response = await fetch(`${url}/healthz`, { signal: AbortSignal.timeout(3_000) }).catch(() => undefined)
  return response?.ok ?? false
}

async function readyz(url: string): Promise<string> {
  const body = (await (await fetch(`${url}/readyz`, { signal: AbortSignal.timeout(3_000) })).json()) as {
    database: string
    runners: number
  }
  if (body.database !== 'ok') throw new Error(`the database ${body.database}`)
  return `ok, ${body.runners} runner${body.runners === 1 ? '' : 's'} connected`
}

function listens(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port })
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => resolve(false))
  })
}
