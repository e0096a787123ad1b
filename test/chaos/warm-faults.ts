/** Faults of CLIs that wait for the next turn of their session, and of spares. */
import { setTimeout as sleep } from 'node:timers/promises'
import { back, between, pick, type Act, type Fault } from './fault.ts'
import type { Plan } from './load.ts'
import { killClis } from './process-faults.ts'
import { call } from './subscriber.ts'
import { kill, lives, residentMiB, type Runner } from './stage.ts'

/** Short ones, so that there are many; but where a tool is there must be time to cancel it. */
const plan = (random: () => number): Plan => ({
  everyMs: 20 + Math.floor(random() * 40),
  bytes: 100 + Math.floor(random() * 1_000),
  ...(random() < 0.05 ? { big: 400_000 } : {}),
  ...(random() < 0.1 ? { orphan: true, lines: 80 } : { lines: 4 + Math.floor(random() * 20) }),
})
/** What waits is gone when a fault says so, or soon. */
const GONE_MS = 5_000
const BUDGET_MIB = 150

type Stroke = (act: Act) => Promise<void>

/** At the moment in which their sessions go on. */
const killIdle: Stroke = async ({ stage }) => (await stage.clisOf()).forEach((pid) => kill(pid))

const killRouter: Stroke = async (act) => {
  const before = await act.stage.clisOf()
  await act.stage.router.stop('SIGKILL')
  await act.stage.router.start()
  for (const runner of act.stage.runners) await back(act, runner)
  const gone = await goneOf(before)
  if (gone.length > 0) throw new Error(`${gone.length} of ${before.length} CLIs went with the router`)
}

/** Its CLIs do not mind that their stdin is closed, so only a sweep ends them. */
const killRunner: Stroke = async (act) => {
  const runner = pick(act.stage.runners)
  const before = await act.stage.clisOf(runner)
  act.note('idle at the kill CLIs', before.length)
  await runner.process.stop('SIGKILL')
  runner.process = await act.stage.startRunner(runner)
  await allGone(before, 'a runner that was killed')
  await back(act, runner)
}

let changes = 0

const changeConfig: Stroke = async ({ stage }) => {
  const before = await stage.clisOf()
  const admin = { port: stage.router.port, token: stage.router.adminToken }
  const { status, body } = await call(admin, 'PUT', '/v1/config/rules.chaos', { content: `Change ${++changes}.` })
  if (status !== 200 && status !== 201) throw new Error(`a config file was not taken: ${status} ${body}`)
  await allGone(before, 'a config that is another one now')
}

const warmSessions: Fault = {
  name: 'warm-sessions',
  what: 'between turns, one after another: idle CLIs killed, the router killed, a runner killed, a config file changed',
  seconds: 60,
  turns: 8,
  plan: (random) => ({ ...plan(random), stubborn: true }),
  async act(act) {
    do {
      for (const stroke of [killIdle, killRouter, killRunner, changeConfig]) {
        await act.pause(between(1_500, 2_500))
        await act.lull()
        act.inject()
        await stroke(act)
        await act.goOn()
      }
    } while (!act.over)
  },
}

const warmCliKill: Fault = {
  name: 'warm-cli-kill',
  what: 'kill -9 of CLIs of long sessions, in their turns and between them',
  seconds: 20,
  turns: 8,
  plan,
  mayFail: ['crashed'],
  act: (act) => killClis(act, 100, 400),
}

const warmRunnerKill: Fault = {
  name: 'warm-runner-kill',
  what: 'kill -9 of a runner in the middle of the turns of long sessions, and a config file changed meanwhile',
  seconds: 30,
  notInCi: 'warm-sessions and runner-kill say it between them',
  turns: 8,
  plan,
  mayFail: ['runner_restarted', 'not_started'],
  killsRunner: true,
  async act(act) {
    do {
      await act.pause(between(1_500, 3_000))
      const runner = pick(act.stage.runners)
      act.inject()
      await runner.process.stop('SIGKILL')
      const admin = { port: act.stage.router.port, token: act.stage.router.adminToken }
      await call(admin, 'PUT', '/v1/config/rules.chaos', { content: `Change ${++changes}.` })
      runner.process = await act.stage.startRunner(runner)
      await back(act, runner)
    } while (!act.over)
  },
}

const warmBudget: Fault = {
  name: 'warm-budget',
  what: `more sessions than ${BUDGET_MIB} MiB of idle CLIs have room for`,
  seconds: 20,
  notInCi: 'the properties of runner/warm/keep.test.ts say it',
  turns: 4,
  policy: `warm_memory_mb = ${BUDGET_MIB}`,
  plan,
  async act(act) {
    do {
      await act.pause(between(1_500, 2_500))
      await act.lull()
      act.inject()
      for (const runner of act.stage.runners) await withinBudget(act, runner)
      await act.goOn()
    } while (!act.over)
  },
}

/** A look at their memory is up to half a minute old, and a fake CLI does not grow: what it had it has. */
async function withinBudget(act: Act, runner: Runner): Promise<void> {
  const deadline = performance.now() + GONE_MS
  for (;;) {
    const sizes = await Promise.all((await act.stage.clisOf(runner)).map(residentMiB))
    const sum = sizes.reduce((all, size) => all + size, 0)
    if (sum <= BUDGET_MIB) return act.note('idle MiB', sum)
    if (performance.now() > deadline) throw new Error(`${sizes.length} idle CLIs have ${Math.round(sum)} MiB of ${BUDGET_MIB}`)
    await sleep(50)
  }
}

async function allGone(pids: readonly number[], after: string): Promise<void> {
  const deadline = performance.now() + GONE_MS
  for (let gone = await goneOf(pids); gone.length < pids.length; gone = await goneOf(pids)) {
    if (performance.now() > deadline) throw new Error(`${pids.length - gone.length} of ${pids.length} idle CLIs outlived ${after}`)
    await sleep(50)
  }
}

async function goneOf(pids: readonly number[]): Promise<number[]> {
  const alive = await Promise.all(pids.map(lives))
  return pids.filter((_pid, i) => !alive[i])
}

export const WARM_FAULTS: readonly Fault[] = [warmSessions, warmCliKill, warmRunnerKill, warmBudget]
