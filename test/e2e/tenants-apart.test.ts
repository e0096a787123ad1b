/**
 * Two tenants of one runner never share a process, whatever they have in common: their sessions and spares are taken turn
 * about from the runner's own pool, and each turn says by which process it was taken. The real CLI says it through a tool, and
 * a CLI of ours, of which there can be many, in its diary.
 */
import { randomUUID } from 'node:crypto'
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import * as fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { SessionUse } from '../../shared/run-spec.ts'
import { gatewayStage, type Stage } from '../kit/gateway-stage.ts'
import { until } from '../kit/wait.ts'
import { startModel, text, toolUse, type Model } from '../model/scripted.ts'

const FAKE = fileURLToPath(new URL('../chaos/fake-claude.mjs', import.meta.url))
const TENANTS = ['blue', 'green'] as const
type Tenant = (typeof TENANTS)[number]

/** One turn: a session is opened, or continued by somebody who may be another one. */
interface Step {
  readonly by: Tenant
  /** Of those that are there; none of them: a new one. */
  readonly session: number
  readonly foreign: boolean
}

const step: fc.Arbitrary<Step> = fc.record({
  by: fc.constantFrom(...TENANTS),
  session: fc.nat(9),
  foreign: fc.nat(7).map((n) => n === 0),
})

/** Which process took a turn, and the config folder in its environment. */
type Taken = { readonly pid: string; readonly config: string; readonly warm: boolean; readonly isNew: boolean }

/** `told` reads what the process of the turn says of itself. */
type Prompt = () => { readonly prompt: string; readonly told: (lines: string) => Promise<Omit<Taken, 'warm' | 'isNew'>> }

class Log {
  /** Sessions, and what the CLI calls them. */
  readonly open: Record<Tenant, { run: string; cli: string }[]> = { blue: [], green: [] }
  readonly #of: Record<Tenant, Taken[]> = { blue: [], green: [] }

  add(by: Tenant, taken: Taken): void {
    this.#of[by].push(taken)
  }

  /** `without`: tenants that had no second turn of a process, or no spare, so that nothing was shown. */
  summary(): { shared: string[]; configs: Record<Tenant, string[]>; without: string[] } {
    const all = (tenant: Tenant, pick: (one: Taken) => string) => [...new Set(this.#of[tenant].map(pick))]
    const green = new Set(all('green', ({ pid }) => pid))
    const had = (tenant: Tenant, isNew: boolean) => this.#of[tenant].some((one) => one.warm && one.isNew === isNew)
    return {
      shared: all('blue', ({ pid }) => pid).filter((pid) => green.has(pid)),
      configs: { blue: all('blue', ({ config }) => config), green: all('green', ({ config }) => config) },
      without: TENANTS.flatMap((tenant) => [...(had(tenant, false) ? [] : [`${tenant}: a second turn`]), ...(had(tenant, true) ? [] : [`${tenant}: a spare`])]),
    }
  }
}

const apart = (stage: Stage) => ({ shared: [], configs: { blue: [join(stage.dir, 'config/blue')], green: [join(stage.dir, 'config/green')] }, without: [] })

describe('two tenants with the same configuration', () => {
  let dir: string
  let model: Model
  let stage: Stage
  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'runyard-tenants-'))
    model = await startModel()
  })
  afterAll(async () => {
    await model.close()
    await rm(dir, { recursive: true, force: true })
  })

  /** Plays each lane by itself, beside the others. */
  async function play(lanes: readonly (readonly Step[])[], prompt: Prompt, log = new Log()): Promise<Log> {
    // One folder for both: named workspaces are apart by their paths alone, and nothing else would have to be.
    const cwd = join(stage.dir, 'common')
    await mkdir(cwd, { recursive: true })
    const { open } = log
    const taken = new Set<string>()
    await Promise.all(
      lanes.map(async (steps) => {
        for (const { by, session, foreign } of steps) {
          const owner = foreign ? TENANTS.find((tenant) => tenant !== by)! : by
          const known = open[owner][session]
          // One turn of a session at a time: that is the router's rule.
          if (known && taken.has(known.run)) continue
          const use: SessionUse = known ? { mode: 'resume', id: known.run, cli: known.cli } : { mode: 'new', id: randomUUID() }
          taken.add(use.id)
          const asked = prompt()
          const prepared = await stage.prepare([{ id: 'a', url: model.url }], { tenant: by, session: use, prompt: asked.prompt, cwd, allowed_tools: ['Bash'] })
          const printed: string[] = []
          const line = (bytes: Uint8Array) => printed.push(Buffer.from(bytes).toString())
          const end = await prepared.process.turn({ line, batch: line, mark: () => undefined })
          await prepared.dispose()
          expect([end.code, end.result?.is_error], printed.join('\n')).toEqual([0, false])
          if (!known) open[by].push({ run: use.id, cli: prepared.cliSession ?? use.id })
          taken.delete(use.id)
          log.add(by, { ...(await asked.told(printed.join('\n'))), warm: prepared.process.warm === true, isNew: !known })
        }
      }),
    )
    return log
  }

  it('never share a process, in hundreds of turns of many sessions beside each other', { timeout: 180_000 }, async () => {
    stage = await gatewayStage({ warmIdleS: 60, spares: 2, claude: FAKE, env: { CHAOS_LOG: dir }, envAllow: ['CHAOS_LOG'] })
    try {
      const lanes = fc.sample(fc.array(step, { minLength: 60, maxLength: 60 }), { numRuns: 4, seed: 7 })
      const prompt: Prompt = () => {
        const key = randomUUID()
        return {
          prompt: JSON.stringify({ key, lines: 1, everyMs: 1, bytes: 10 }),
          told: async () => {
            const pid = /^start (\d+)$/m.exec(await readFile(join(dir, `${key}.log`), 'utf8'))![1]!
            const environ = await readFile(`/proc/${pid}/environ`, 'utf8')
            return { pid, config: /(?:^|\0)CLAUDE_CONFIG_DIR=([^\0]*)/.exec(environ)![1]! }
          },
        }
      }
      const log = await play(lanes, prompt)
      // On a busy machine there may have been none in time.
      await until('spares for both of them', () => stage.waiting().spares === 4, 60_000)
      await play([TENANTS.map((by) => ({ by, session: Infinity, foreign: false }))], prompt, log)
      expect(log.summary()).toEqual(apart(stage))
    } finally {
      await stage.close()
    }
  })

  it('never share one of the real CLI either', { timeout: 180_000 }, async () => {
    stage = await gatewayStage({ warmIdleS: 60, spares: 1 })
    const isDone = (raw: string) => raw.lastIndexOf('"tool_result"') > raw.lastIndexOf('Who are you?')
    model.script(({ raw }) => (isDone(raw) ? text('done') : toolUse('Bash', { command: 'echo "pid=$(cut -d" " -f4 /proc/$$/stat) config=$CLAUDE_CONFIG_DIR;"', description: 'x' })))
    try {
      const turns = (by: Tenant, ...sessions: number[]): Step[] => sessions.map((session) => ({ by, session, foreign: false }))
      const prompt: Prompt = () => ({
        prompt: 'Who are you?',
        told: (lines) => {
          const [, pid, config] = /pid=(\d+) config=([^;]*);/.exec(lines) ?? []
          return Promise.resolve({ pid: pid!, config: config! })
        },
      })
      const log = await play([turns('blue', 9, 9), turns('green', 9, 9)], prompt)
      // Two new sessions are worth a spare.
      await until('a spare for each of them', () => stage.waiting().spares === 2, 60_000)
      await play([[...turns('blue', 9, 0), ...turns('green', 9, 0)]], prompt, log)
      expect(log.summary()).toEqual(apart(stage))
    } finally {
      await stage.close()
    }
  })
})
