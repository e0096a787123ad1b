/** Faults of processes: killed, stopped, restarted in order, started twice. */
import { cp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { back, between, foundDead, pick, type Act, type Fault } from './fault.ts'
import { kill, processesWith } from './stage.ts'

const routerKill: Fault = {
  name: 'router-kill',
  host: 'node',
  what: 'kill -9 of the router, started again at once',
  seconds: 35,
  async act(act) {
    do {
      await act.pause(between(1_500, 3_000))
      act.inject()
      await act.stage.router.stop('SIGKILL')
      act.note('router started in s', await timed(() => act.stage.router.start()))
      for (const runner of act.stage.runners) await back(act, runner)
    } while (!act.over)
  },
}

const workerdKill: Fault = {
  ...routerKill,
  name: 'workerd-kill',
  what: 'kill -9 of workerd with the router in it, started again at once',
  host: 'workers',
}

const runnerKill: Fault = {
  name: 'runner-kill',
  what: 'kill -9 of a runner, started again at once',
  seconds: 35,
  mayFail: ['runner_restarted', 'not_started'],
  killsRunner: true,
  async act(act) {
    do {
      await act.pause(between(1_500, 3_000))
      const runner = pick(act.stage.runners)
      act.inject()
      await runner.process.stop('SIGKILL')
      act.note('runner started in s', await timed(async () => (runner.process = await act.stage.startRunner(runner))))
      await back(act, runner)
    } while (!act.over)
  },
}

/** One of them each time, after so many milliseconds. */
export async function killClis(act: Act, least: number, most: number): Promise<void> {
  do {
    await act.pause(between(least, most))
    const pid = pick(await act.stage.clis())
    act.inject()
    if (pid !== undefined) kill(pid)
  } while (!act.over)
}

const cliKill: Fault = {
  name: 'cli-kill',
  what: 'kill -9 of CLIs, and of what they started',
  seconds: 15,
  mayFail: ['crashed'],
  act: (act) => killClis(act, 200, 600),
}

const sigstop: Fault = {
  name: 'sigstop',
  what: 'a runner stopped by SIGSTOP for its time, and let go on',
  seconds: 120,
  leastSeconds: 35,
  async act(act) {
    const [runner] = act.stage.runners
    act.inject()
    runner!.process.signal('SIGSTOP')
    try {
      await foundDead(act, runner!)
      while (!act.over) await act.pause(1_000)
    } finally {
      runner!.process.signal('SIGCONT')
    }
    await back(act, runner!)
  },
}

const rollingRestart: Fault = {
  name: 'rolling-restart',
  what: 'SIGTERM of the router and then of each runner, each started again',
  seconds: 25,
  mayFail: ['runner_stopped'],
  async act(act) {
    do {
      await act.pause(2_000)
      act.inject()
      act.note('router stopped in s', await timed(() => act.stage.router.shutDown()))
      await act.stage.router.start()
      for (const runner of act.stage.runners) {
        await act.stage.untilOnline(runner)
        act.inject()
        act.note('runner stopped in s', await timed(() => runner.process.stop('SIGTERM', 12_000)))
        runner.process = await act.stage.startRunner(runner)
        await back(act, runner)
      }
    } while (!act.over)
  },
}

const COPY_ATTEMPTS = 10

/** A copy of a runner's state, started beside it: a restored backup, or a cloned disk. */
const duplicateIdentity: Fault = {
  name: 'duplicate-identity',
  what: 'the state of a runner copied and started a second time for some seconds',
  seconds: 20,
  // The copy knows nothing of the runs of the original, and the newer connection is believed.
  mayFail: ['lost', 'runner_restarted', 'not_started'],
  killsRunner: true,
  async act(act) {
    const [runner] = act.stage.runners
    do {
      await act.pause(1_500)
      const copy = join(act.stage.dir, 'copy')
      await copyState(runner!.dataDir, copy)
      act.inject()
      const second = await act.stage.startRunner({ ...runner!, name: 'copy' }, copy)
      await act.pause(5_000)
      await second.stop('SIGKILL')
      // With its state goes the only one who could have found what it left running.
      for (const { pid } of await processesWith(copy)) kill(pid)
      await rm(copy, { recursive: true, force: true, maxRetries: 5 })
      await back(act, runner!)
    } while (!act.over)
  },
}

/** Of a runner that goes on meanwhile: folders of its runs may be gone between the list that has them and the look at them. */
async function copyState(from: string, to: string): Promise<void> {
  const isState = (path: string) => !path.endsWith('.lock') && !path.endsWith('.spool') && !/\/(?:runner\/warm|work\/)/.test(path)
  for (let attempt = 1; ; attempt++) {
    try {
      return await cp(from, to, { recursive: true, filter: isState })
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || attempt === COPY_ATTEMPTS) throw error
      await rm(to, { recursive: true, force: true })
    }
  }
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const since = performance.now()
  await work()
  return (performance.now() - since) / 1_000
}

export const PROCESS_FAULTS: readonly Fault[] = [sigstop, routerKill, workerdKill, runnerKill, rollingRestart, duplicateIdentity, cliKill]
