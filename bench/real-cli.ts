/**
 * The real CLI against a scripted model on loopback: through the product, and started by hand with the same arguments and
 * the same environment, which is as fast as it can be had without us.
 */
import { randomUUID } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { claudeArgv } from '../runner/claude/argv.ts'
import { claudeEnv } from '../runner/claude/env.ts'
import { userLine } from '../runner/claude/input.ts'
import { claudeSettings } from '../runner/claude/settings.ts'
import { prepareConfigDir } from '../runner/config-dir.ts'
import { startDemoModel } from '../runner/demo/model.ts'
import type { RunSpec } from '../shared/run-spec.ts'
import { ROOT } from '../test/chaos/processes.ts'
import type { LoadClient } from './load/client.ts'
import { makeTemp, removeTemp } from './temp.ts'

export const REAL_CLI = join(ROOT, 'node_modules/.bin/claude')

/** Says what a runner has in its environment to reach it. */
export interface Model {
  readonly env: Readonly<Record<string, string>>
  close(): Promise<void>
}

export async function openModel(): Promise<Model> {
  const { url, token, close } = await startDemoModel()
  return { env: { ANTHROPIC_BASE_URL: url, ANTHROPIC_API_KEY: token }, close }
}

export interface ByHand {
  /** One cold start with one turn: ms from before the start to the first line, and to the end. */
  turn(prompt: string): Promise<{ firstLineMs: number; endMs: number }>
  close(): Promise<void>
}

/** The config directory stays over all turns, as a runner's does; each session is a new one in a fresh folder. */
export async function openByHand(client: LoadClient, model: Model): Promise<ByHand> {
  const dir = await makeTemp('hand')
  const configDir = join(dir, 'config')
  const settings = join(dir, 'settings.json')
  await prepareConfigDir(configDir)
  const runner = { PATH: process.env['PATH'], HOME: dir, TMPDIR: dir }
  let n = 0
  return {
    async turn(prompt) {
      const cwd = join(dir, `session-${++n}`)
      await mkdir(cwd)
      const spec: RunSpec = { tenant: 'default', session: { mode: 'new', id: randomUUID() }, prompt, timeout_s: 600 }
      await writeFile(settings, JSON.stringify(claudeSettings(spec)))
      const env = claudeEnv({ runner, configDir, provider: model.env, marker: randomUUID() })
      const input = userLine(prompt, randomUUID())
      return client.direct({ command: REAL_CLI, args: claudeArgv(spec, { settings }), cwd, env, input, until: '"type":"result"' })
    },
    close: () => removeTemp(dir),
  }
}
