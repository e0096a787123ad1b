/** One fault from the rising of the curtain to the empty stage: clients, injections, judgement, rest. */
import { setTimeout as sleep } from 'node:timers/promises'
import { accountsOf, judgeAccounts } from './accounts.ts'
import type { Act, Fault } from './fault.ts'
import { Load, ordinaryPlan } from './load.ts'
import { endingOf, judge, judgeRest, type Rest, type Story, type Violation } from './oracle.ts'
import type { HostName } from './routers.ts'
import { processesWith, Stage, wantsMachine } from './stage.ts'
import { gapNumbers, gaps, type Row } from './table.ts'

export type FaultRun = { host: HostName; seconds: number; streams: number; longestRunMs: number; signal: AbortSignal; say: (text: string) => void }

const RUNNERS = 2
const CURTAIN_MS = 15_000
/** After the fault every run must end within this, its own time of some seconds included. */
const SETTLE_MS = 60_000
const REST_MS = 15_000
/** Without anything of it wanting a processor or the disk. */
const LEFT_MS = 1_000

export async function runFault(fault: Fault, { host, seconds, streams, longestRunMs, signal, say }: FaultRun): Promise<Row> {
  const startedAt = performance.now()
  const row: Row = { fault: fault.name, runs: 0, refused: 0, endings: {}, injections: 0, violations: [], gap: gapNumbers([]), notes: {} }
  let stage: Stage | undefined
  let load: Load | undefined
  try {
    // Room for all on either of them, as when the other one is away.
    stage = await Stage.open({ host, runners: RUNNERS, slots: streams + 8, env: fault.env, policy: fault.policy }, signal)
    await fault.before?.(stage)
    load = new Load({
      stage,
      streams,
      prefix: fault.name,
      plan: fault.plan ?? ordinaryPlan(longestRunMs),
      turns: fault.turns ?? 1,
      mayFail: fault.mayFail ?? [],
      killsRunner: fault.killsRunner ?? false,
      ...(fault.stallMs === undefined ? {} : { stallMs: fault.stallMs }),
    })
    await untilPlaying(load, streams, signal)
    say(`${fault.name}: ${Math.round(seconds)} s, ${streams} streams`)
    const injections: number[] = []
    await fault.act(acting(stage, load, seconds, row, injections, signal))
    await load.finish(SETTLE_MS)
    row.injections = injections.length
    row.gap = gapNumbers(gaps(load.live, injections))
    row.notes['taken warm turns'] = load.warmTurns
    row.notes['cut tools'] = load.stories.filter(({ diary }) => diary.cut && diary.children.length > 0).length
    if (fault.turns !== undefined && load.warmTurns === 0) throw new Error('no process has taken a second turn')
    row.violations.push(...load.stories.flatMap(judge), ...refusals(load), ...judgeRest(await rest(stage)))
    row.violations.push(...judgeAccounts(await accountsOf(stage), load.stories), ...(await afterwards(stage)))
  } catch (error) {
    if (!signal.aborted) row.violations.push({ rule: 'I9', key: 'the stage', what: error instanceof Error ? error.message : String(error) })
  } finally {
    await load?.abandon()
    count(row, load?.stories ?? [])
    if (stage) await fault.after?.(stage)
    const keep = row.violations.length > 0 && !signal.aborted
    await stage?.close(keep)
    if (stage && keep) say(`${fault.name}: ${row.violations.length} violations; logs and diaries are in ${stage.dir}`)
  }
  say(`${fault.name}: ${row.runs} runs, ${row.violations.length} violations, ${Math.round((performance.now() - startedAt) / 1_000)} s`)
  return row
}

function acting(stage: Stage, load: Load, seconds: number, row: Row, injections: number[], signal: AbortSignal): Act {
  const until = performance.now() + seconds * 1_000
  const note = (name: string, value: number) => void (row.notes[name] = Math.max(row.notes[name] ?? 0, value))
  return {
    stage,
    inject: () => void injections.push(performance.now()),
    pause: (ms) => sleep(Math.max(0, ms), undefined, { signal }).catch(() => undefined),
    get over() {
      return signal.aborted || performance.now() >= until
    },
    note,
    lull: () => load.lull(SETTLE_MS),
    async goOn() {
      const since = performance.now()
      load.goOn()
      while (load.following === 0 && !signal.aborted) await sleep(5)
      note('first run after s', (performance.now() - since) / 1_000)
    },
  }
}

async function untilPlaying(load: Load, streams: number, signal: AbortSignal): Promise<void> {
  for (let waitedMs = 0; load.following < streams * 0.8 && waitedMs < CURTAIN_MS && !signal.aborted; waitedMs += 50) await sleep(50)
}

/** What is left when every run has ended and everybody had a moment to clean up. */
async function rest(stage: Stage): Promise<Rest> {
  const deadline = performance.now() + REST_MS
  for (;;) {
    const [strays, spools, folders, running, queued] = await Promise.all([
      stage.strays(),
      stage.spoolFiles(),
      stage.runFolders(),
      ids(stage, 'running'),
      ids(stage, 'queued'),
    ])
    const left: Rest = {
      processes: strays.map(String),
      'spool files': spools,
      'folders of runs': folders,
      streams: stage.network.connections === 0 ? [] : [`${stage.network.connections} connections of clients`],
      runs: [...running, ...queued],
      'objects that cannot hibernate': [],
    }
    const quiet = Object.values(left).every((list) => list.length === 0)
    const pinned = quiet ? await stage.pinned() : []
    if ((quiet && pinned.length === 0) || performance.now() > deadline) return { ...left, 'objects that cannot hibernate': pinned }
    await sleep(200)
  }
}

async function ids(stage: Stage, status: string): Promise<string[]> {
  const { data } = JSON.parse((await stage.ask(`/v1/runs?status=${status}&limit=100`)).body) as { data: { id: string }[] }
  return data.map(({ id }) => id)
}

/** An orderly end leaves nothing: no timer or socket holds a process up, and none is left behind. */
async function afterwards(stage: Stage): Promise<Violation[]> {
  const wrong = await stage.shutDown()
  // What only waits for the end of its parent has a moment for it, and more while it is the machine that it waits for.
  const since = performance.now()
  let restedAt = since
  let left = await processesWith(stage.dir)
  while (left.length > 0 && performance.now() < Math.min(restedAt + LEFT_MS, since + REST_MS)) {
    await sleep(50)
    left = await processesWith(stage.dir)
    const wants = await Promise.all(left.map(({ pid }) => wantsMachine(pid)))
    if (wants.includes(true)) restedAt = performance.now()
  }
  return [...wrong, ...left.map(({ pid, command }) => `${pid} ${command} is left`)].map((what) => ({ rule: 'I11', key: 'after SIGTERM', what }))
}

function refusals({ complaints }: Load): Violation[] {
  return complaints.map((what) => ({ rule: 'ending', key: 'a request', what }))
}

function count(row: Row, stories: readonly Story[]): void {
  for (const { run, watches } of stories) {
    if (run === undefined) {
      row.refused++
      continue
    }
    row.runs++
    const last = watches.at(-1)
    const { status, code } = last ? endingOf(last) : { status: 'none', code: '' }
    const name = code === '' || code === status ? status : `${status} ${code}`
    row.endings[name] = (row.endings[name] ?? 0) + 1
  }
}
