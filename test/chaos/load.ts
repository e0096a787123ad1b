/**
 * Clients under a fault: each submits a run, follows it with several subscribers, and begins again with the next one, which
 * may be the next turn of the same session.
 *
 * A request is repeated with its `Idempotency-Key` until there is an answer. One that never got any is looked up in the
 * end: it may have started. What comes of it all are the stories for the oracle.
 */
import { setMaxListeners } from 'node:events'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { readDiary, type Diary, type Story, type Watch } from './oracle.ts'
import { lives, type Stage } from './stage.ts'
import { call, follow } from './subscriber.ts'

export type Plan = { lines: number; everyMs: number; bytes: number; big?: number; orphan?: boolean; stubborn?: boolean }

export type LoadOptions = {
  stage: Stage
  streams: number
  /** Unique on the stage. */
  prefix: string
  plan: (random: () => number) => Plan
  /** Of each session. */
  turns: number
  /** Error codes that the fault excuses. */
  mayFail: readonly string[]
  killsRunner: boolean
  /** The second subscriber of each run does not read for so long; each client has one run only then. */
  stallMs?: number
}

const CANCELLED_SHARE = 0.08
/** Where a tool is cancelled, its CLI must go with it: rare things that have to be seen. */
const CANCELLED_TOOLS_SHARE = 0.5
const TOOL_MS = 5_000
const DIARY_MS = 2_000
const LOOK_MS = 20
const RUN_TIMEOUT_S = 900

/** Runs of up to `longestMs`, and of a third of it at least. */
export const ordinaryPlan = (longestMs: number) => (random: () => number): Plan => {
  const everyMs = 60 + Math.floor(random() * 90)
  return {
    everyMs,
    lines: Math.ceil((longestMs * (1 + 2 * random())) / 3 / everyMs),
    bytes: 100 + Math.floor(random() * 2_000),
    ...(random() < 0.1 ? { big: 400_000 + Math.floor(random() * 1_000_000) } : {}),
    ...(random() < 0.2 ? { orphan: true } : {}),
  }
}

export class Load {
  readonly stories: Story[] = []
  /** Followed by a client while it ran; not the replays. */
  readonly live: Watch[] = []
  /** Answers to requests that no fault explains. */
  readonly complaints: string[] = []
  readonly #o: LoadOptions
  readonly #stop = new AbortController()
  readonly #deadline = new AbortController()
  readonly #unanswered = new Set<string>()
  readonly #clients: Promise<void>[]
  #count = 0
  #following = 0
  /** Clients that have a run or ask for one. */
  #busy = 0
  #lull: { readonly over: Promise<void>; readonly end: () => void } | undefined

  constructor(options: LoadOptions) {
    this.#o = options
    for (const { signal } of [this.#stop, this.#deadline]) setMaxListeners(0, signal)
    this.#clients = Array.from({ length: options.streams }, () => this.#client())
  }

  /** How many turns were taken by a process that had taken one before. */
  get warmTurns(): number {
    const clis = this.stories.flatMap(({ diary }) => diary.clis)
    return clis.length - new Set(clis).size
  }

  /** Runs that are being followed now. */
  get following(): number {
    return this.#following
  }

  /** No client begins anything until `goOn`; resolves when none is at anything, and rejects when that takes too long. */
  async lull(withinMs: number): Promise<void> {
    let end: () => void = () => undefined
    const over = new Promise<void>((resolve) => (end = resolve))
    this.#lull = { over, end }
    const deadline = performance.now() + withinMs
    while (this.#busy > 0 && !this.#stop.signal.aborted) {
      if (performance.now() > deadline) throw new Error(`${this.#busy} clients still have a run after ${withinMs} ms in which none began`)
      await this.#pause(20)
    }
  }

  goOn(): void {
    this.#lull?.end()
    this.#lull = undefined
  }

  /** No new runs; those that go on have `settleMs` to end. Then the stories are whole. */
  async finish(settleMs: number): Promise<void> {
    this.#stop.abort()
    this.goOn()
    const timer = setTimeout(() => this.#deadline.abort(), settleMs)
    await Promise.all(this.#clients)
    await this.#findUnanswered()
    clearTimeout(timer)
  }

  /** At once, with the stories as they are. */
  async abandon(): Promise<void> {
    this.#stop.abort()
    this.goOn()
    this.#deadline.abort()
    await Promise.all(this.#clients)
  }

  async #client(): Promise<void> {
    // Not all in the same instant.
    await this.#pause(Math.random() * 1_000)
    let session: string | undefined
    for (let turn = 1; ; turn++) {
      await this.#lull?.over
      if (this.#stop.signal.aborted) return
      this.#busy++
      session = await this.#oneRun(session).finally(() => this.#busy--)
      if (turn % this.#o.turns === 0) session = undefined
      if (this.#o.stallMs !== undefined) return
    }
  }

  /** Resolves to the session, if it can be gone on with. */
  async #oneRun(session: string | undefined): Promise<string | undefined> {
    const key = `${this.#o.prefix}-${++this.#count}`
    const plan = this.#o.plan(Math.random)
    const run = await this.#submit(key, plan, session)
    if (run === undefined) this.#unanswered.add(key)
    return run && (await this.#observe(key, run.id, plan)) ? run.session_id : undefined
  }

  /** Undefined when the time is over before there was an answer. */
  async #submit(key: string, plan: Plan, session_id: string | undefined): Promise<{ id: string; session_id: string } | undefined> {
    const body = { prompt: JSON.stringify({ key, ...plan }), timeout_s: RUN_TIMEOUT_S, metadata: { key }, session_id }
    const headers = { prefer: 'respond-async', 'idempotency-key': key }
    while (!this.#stop.signal.aborted) {
      const answer = await call(this.#o.stage.where, 'POST', '/v1/runs', body, headers).catch((): undefined => undefined)
      // A finished run is answered with 200 to a repeated request.
      if (answer?.status === 202 || answer?.status === 200) return JSON.parse(answer.body) as { id: string; session_id: string }
      if (answer && answer.status < 500 && answer.status !== 429) this.complaints.push(`${key}: ${answer.status} ${answer.body.slice(0, 200)}`)
      await this.#pause(200 + Math.random() * 400)
    }
    return undefined
  }

  /** Resolves to whether its CLI said anything. */
  async #observe(key: string, run: string, plan: Plan): Promise<boolean> {
    this.#following++
    const where = () => this.#o.stage.where
    const { signal } = this.#deadline
    const expectedMs = plan.lines * plan.everyMs
    const watching = follow({ where, run, what: 'live', after: 0, signal })
    const { stallMs } = this.#o
    const second = this.#pause(stallMs === undefined ? Math.random() * expectedMs : 0).then(() =>
      follow({ where, run, what: 'late', after: 0, signal, ...(stallMs === undefined ? {} : { stallMs }) }),
    )
    const cancelAsked = Math.random() < (plan.orphan ? CANCELLED_TOOLS_SHARE : CANCELLED_SHARE)
    const moment = plan.orphan ? () => this.#untilTool(key) : () => this.#pause(Math.random() * expectedMs)
    const cancelling = cancelAsked ? moment().then(() => this.#cancel(run)) : undefined
    const live = await watching
    const alive = await this.#alive(key)
    const late = await second
    await cancelling
    this.live.push(live, ...(stallMs === undefined ? [late] : []))
    const after = live.events[Math.floor(Math.random() * live.events.length)]?.id ?? 0
    const part = await this.#replay(run, 'part of a replay', after)
    const whole = await this.#replay(run, 'replay', 0)
    await this.#tell(key, run, [live, late, part, whole], cancelAsked, alive)
    this.#following--
    return live.events.some(({ event }) => event === 'message')
  }

  #replay(run: string, what: string, after: number): Promise<Watch> {
    return follow({ where: () => this.#o.stage.direct, run, what, after, signal: this.#deadline.signal })
  }

  /** Its CLI has started a tool, or takes so long that it may never. */
  async #untilTool(key: string): Promise<void> {
    for (let waitedMs = 0; waitedMs < TOOL_MS && (await this.#childrenOf(key)) === 0; waitedMs += LOOK_MS) await this.#pause(LOOK_MS)
  }

  async #childrenOf(key: string): Promise<number> {
    return readDiary(await this.#diary(key)).children.length
  }

  async #cancel(run: string): Promise<void> {
    while (!this.#deadline.signal.aborted) {
      const answer = await call(this.#o.stage.where, 'POST', `/v1/runs/${run}/cancel`).catch((): undefined => undefined)
      if (answer && answer.status < 500) return
      await sleep(300)
    }
  }

  async #alive(key: string): Promise<number[]> {
    const { clis, children } = readDiary(await this.#diary(key))
    const pids = [...clis, ...children]
    const alive = await Promise.all(pids.map(lives))
    return pids.filter((_pid, i) => alive[i])
  }

  /** Requests without an answer: their runs are in the list, by the key in their metadata, or never were. */
  async #findUnanswered(): Promise<void> {
    if (this.#unanswered.size === 0) return
    const runs = new Map<string, string>()
    for (let before = ''; ; ) {
      const { body } = await this.#o.stage.ask(`/v1/runs?limit=100${before && `&before=${before}`}`)
      const { data, next } = JSON.parse(body) as { data: { id: string; metadata: { key?: string } | null }[]; next: string | null }
      for (const { id, metadata } of data) if (metadata?.key !== undefined) runs.set(metadata.key, id)
      if (next === null) break
      before = next
    }
    const all = [...this.#unanswered].map(async (key) => {
      const run = runs.get(key)
      await this.#tell(key, run, run === undefined ? [] : [await this.#replay(run, 'replay', 0)], false)
    })
    await Promise.all(all)
  }

  async #tell(key: string, run: string | undefined, watches: Watch[], cancelAsked: boolean, alive: number[] = []): Promise<void> {
    const { mayFail, killsRunner } = this.#o
    // Read at the end, when nothing is added any more.
    const diary = await this.#wholeDiary(key)
    this.stories.push({ key, run, watches, diary, cancelAsked, alive, mayFail, readerDied: killsRunner })
  }

  /** What it printed last may be known to everybody before a busy disk lets its CLI write that down. */
  async #wholeDiary(key: string): Promise<Diary> {
    for (let waitedMs = 0; ; waitedMs += LOOK_MS) {
      const diary = readDiary(await this.#diary(key))
      if (diary.ended || waitedMs >= DIARY_MS || !(await Promise.all(diary.clis.map(lives))).includes(true)) return diary
      await sleep(LOOK_MS)
    }
  }

  #diary(key: string): Promise<string> {
    return readFile(join(this.#o.stage.diaries, `${key}.log`), 'utf8').catch(() => '')
  }

  async #pause(ms: number): Promise<void> {
    await sleep(ms, undefined, { signal: this.#stop.signal }).catch(() => undefined)
  }
}
