/**
 * The real CLI for tests that ask what it does: an empty environment, a temporary HOME, a scripted model, and the
 * stream-json conversation by hand, so that nothing of the runner stands between the test and the CLI.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, realpath, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { z } from 'zod'

export const CLAUDE = fileURLToPath(new URL('../../node_modules/.bin/claude', import.meta.url))

const Line = z.looseObject({ type: z.string(), result: z.string().optional(), is_error: z.boolean().optional() })
export type Line = z.infer<typeof Line>
export type Cli = {
  /** Sends one prompt and resolves with its result line. */
  turn: (content: string | readonly object[]) => Promise<Line>
  lines: readonly Line[]
  /** Closes stdin and waits for the exit. */
  close: () => Promise<void>
}

export type CliOptions = {
  env: Readonly<Record<string, string>>
  cwd: string
  home: string
  args?: readonly string[]
}

export function startCli({ env, cwd, home, args = [] }: CliOptions): Cli {
  const constant = [
    '-p',
    '--verbose',
    '--output-format=stream-json',
    '--input-format=stream-json',
    '--setting-sources=user',
    '--strict-mcp-config',
  ]
  const child = spawn(CLAUDE, [...constant, '--permission-mode=acceptEdits', '--model=claude-sonnet-4-5', ...args], {
    cwd,
    env: {
      PATH: '/usr/local/bin:/usr/bin:/bin',
      HOME: home,
      DISABLE_AUTOUPDATER: '1',
      CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: '1',
      CLAUDE_CODE_MAX_RETRIES: '0',
      ...env,
    },
    stdio: ['pipe', 'pipe', 'ignore'],
  })
  const exited = once(child, 'exit')
  const lines: Line[] = []
  const results: Line[] = []
  const output = createInterface({ input: child.stdout })
  output.on('line', (text) => {
    const line = Line.parse(JSON.parse(text))
    lines.push(line)
    if (line.type === 'result') results.push(line)
  })
  return {
    lines,
    turn: async (content) => {
      child.stdin.write(`${JSON.stringify({ type: 'user', message: { role: 'user', content }, parent_tool_use_id: null })}\n`)
      while (results.length === 0) {
        await Promise.race([once(output, 'line'), exited.then(() => Promise.reject(new Error('the CLI exited in mid-turn')))])
      }
      const result = results.shift()
      if (!result) throw new Error('a result line was there and is gone')
      return result
    },
    close: async () => {
      child.stdin.end()
      await exited
    },
  }
}

/** A fresh folder by its real path, and its removal. */
export async function tempFolder(): Promise<{ path: string; remove: () => Promise<void> }> {
  const path = await realpath(await mkdtemp(join(tmpdir(), 'runyard-')))
  return { path, remove: () => rm(path, { recursive: true, force: true }) }
}
