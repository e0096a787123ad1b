/**
 * The load client: streams and requests from a process of its own, so that what it costs is not in what is measured.
 *
 * This is the side that says what to do; worker.ts does it.
 */
import { startChild, type Child } from '../children.ts'
import type { Counts } from '../programme.ts'
import { Histogram, type Packed } from './histogram.ts'

/**
 * What the fake CLI is told. `lines` alone: at once; with `everyMs`: at a pace; `everyMs` alone: until it is cancelled.
 * `fromUs`: when the pace begins, on the machine's monotonic clock.
 */
export type Plan = { readonly bytes: number; readonly lines?: number; readonly everyMs?: number; readonly fromUs?: number }

export interface StreamSpec {
  readonly port: number
  readonly token: string
  /** Posts a run with this plan as its prompt. */
  readonly plan?: Plan
  /** Posts a run for the real CLI. */
  readonly prompt?: string
  /** Further fields of the run. */
  readonly body?: Readonly<Record<string, unknown>>
  /** Follows this run instead, after that event; `plan` then says what is expected of it. */
  readonly run?: string
  readonly after?: number
  /** Of that run, from whoever has started it. */
  readonly salt?: number
}

export interface StreamReport {
  readonly run: string
  /** What its lines said that they belong to. */
  readonly salt: number
  /** Of the HTTP answer; 0 if there was none. */
  readonly status: number
  /** The body of an answer that is no stream, cut. */
  readonly said?: string
  readonly counts: Counts
  /** With an id, marks included. */
  readonly events: number
  /** Of the fake CLI. */
  readonly lines: number
  readonly bytes: number
  /** From the request on: to the first line of the CLI, to the end. */
  readonly firstLineMs: number
  readonly endMs: number
  /** The longest time between two lines. */
  readonly longestGapMs: number
}

export interface Looked {
  readonly lags: Histogram
  readonly lines: number
  readonly seconds: number
  /** How late the client's own timers were: no lag that it measures is good to less. */
  readonly lateP99Ms: number
}

export type Opened = { readonly handle: number; readonly run: string; readonly salt: number; readonly status: number }

export type Direct = {
  readonly command: string
  readonly args: readonly string[]
  readonly cwd: string
  readonly env: Readonly<Record<string, string>>
  /** Written at once, and stdin is closed after the line that has `until` in it. */
  readonly input: string
  readonly until: string
}

export class LoadClient {
  readonly #child: Child

  private constructor(child: Child) {
    this.#child = child
  }

  static async start(): Promise<LoadClient> {
    return new LoadClient(await startChild('load/worker.js'))
  }

  /** Resolves when each has its first line of the CLI, or has ended. At most `atOnce` requests wait for their answer. */
  async open(specs: readonly StreamSpec[], atOnce = 64): Promise<Opened[]> {
    return (await this.#child.ask('open', { specs, atOnce })) as Opened[]
  }

  /** Resolves when all of them have ended; they are forgotten then. */
  async ended(streams: readonly Opened[]): Promise<StreamReport[]> {
    return (await this.#child.ask('ended', handles(streams))) as StreamReport[]
  }

  async all(specs: readonly StreamSpec[], atOnce = 64): Promise<StreamReport[]> {
    return this.ended(await this.open(specs, atOnce))
  }

  /** Lags of every line of every stream that arrives during the next `ms`. One look at a time. */
  async look(ms: number): Promise<Looked> {
    const found = (await this.#child.ask('look', ms)) as Omit<Looked, 'lags'> & { lags: Packed }
    return { ...found, lags: new Histogram().merge(found.lags) }
  }

  /** Asks the server to cancel their runs; they still end as streams do. */
  async cancel(streams: readonly Opened[], atOnce = 64): Promise<void> {
    await this.#child.ask('cancel', { handles: handles(streams), atOnce })
  }

  /** Does not read from them, or reads on. */
  async hold(streams: readonly Opened[], held: boolean): Promise<void> {
    await this.#child.ask('hold', { handles: handles(streams), held })
  }

  /** Starts a program, writes to it, and says how long its first line and its end took, in ms from before the start. */
  async direct(spec: Direct): Promise<{ firstLineMs: number; endMs: number }> {
    return (await this.#child.ask('direct', spec)) as { firstLineMs: number; endMs: number }
  }

  async stop(): Promise<void> {
    await this.#child.stop()
  }
}

const handles = (streams: readonly Opened[]): number[] => streams.map(({ handle }) => handle)
