/**
 * The hub as one request sees it: every question goes to the object of the runner that has the run, which the row of the
 * run names. What never reached a runner has its events in the shared database.
 */
import type { Context } from 'hono'
import { and, eq, isNotNull, isNull, sql } from 'drizzle-orm'
import { runners, runs } from '../../drizzle/schema.ts'
import { isTerminal } from '../core/run-state.ts'
import { resultBytes } from '../engine/result.ts'
import { isLast } from '../engine/stream.ts'
import type { Cursor, EventChunk, OnlineRunner, Page, Records, RunnerHub, RunnerIdentity, RunRef, RunRow, ShownRun, Store } from '../ports.ts'
import { logEnd, readChunks, readEvent } from '../store/run-events.ts'
import { findRun } from '../store/runs.ts'
import { ChunkDecoder } from './chunk-stream.ts'
import type { Env } from './env.ts'

const PAGE_BYTES = 64 * 1024
/** How long one question waits for a run to leave its line. */
const MOVED_MS = 20_000
const AGAIN_MS = 100
/** An object that does not have the run that its row says it has; it is being put there, or never will be. */
const MISSING_TRIES = 50

export class WorkersHub implements RunnerHub, Records {
  readonly #env: Env
  readonly #store: Store

  constructor(env: Env, store: Store) {
    this.#env = env
    this.#store = store
  }

  async connect(c: Context, who: RunnerIdentity): Promise<Response> {
    const headers = { upgrade: 'websocket', 'x-runner': JSON.stringify({ who, url: new URL(c.req.url).origin }) }
    const { webSocket, headers: answered } = await this.#env.RUNNER.getByName(who.runner).fetch('http://runner/connect', {
      headers,
    })
    // Its own headers cannot be added to, and the app has some to add.
    return new Response(null, { status: 101, webSocket, headers: new Headers(answered) })
  }

  async cancel(ref: RunRef): Promise<void> {
    const row = await findRun(this.#store.db, ref.tenant, ref.run)
    if (row?.runner) await this.#env.RUNNER.getByName(row.runner).cancel(ref)
  }

  async drain(runner: string, on: boolean): Promise<void> {
    await this.#env.RUNNER.getByName(runner).drain(on)
  }

  async revoke(runner: string): Promise<void> {
    await this.#env.RUNNER.getByName(runner).revoke()
  }

  async configChanged(tenant: string, pool: string): Promise<void> {
    const connected = await this.#store.db
      .select({ id: runners.id })
      .from(runners)
      .where(and(eq(runners.tenant, tenant), eq(runners.pool, pool), isNotNull(runners.online)))
    // One that cannot be told now finds it with its next run.
    await Promise.allSettled(connected.map(({ id }) => this.#env.RUNNER.getByName(id).configChanged()))
  }

  /** The object that the events come from counts who reads them. */
  attend(): () => void {
    return () => undefined
  }

  async online(tenant: string): Promise<OnlineRunner[]> {
    const connected = await this.#store.db
      .select({ id: runners.id })
      .from(runners)
      .where(and(eq(runners.tenant, tenant), isNotNull(runners.online)))
    const asked = await Promise.all(
      connected.map(({ id }) =>
        this.#env.RUNNER.getByName(id)
          .status()
          .catch(() => null),
      ),
    )
    return asked.flatMap((runner) => (runner ? [runner as OnlineRunner] : []))
  }

  async load() {
    const { db } = this.#store
    const up = await db
      .select({ online: runners.online })
      .from(runners)
      .where(and(isNotNull(runners.online), isNull(runners.revokedAt)))
    const [live] = await db
      .select({ busy: sql<number>`count(*)` })
      .from(runs)
      .where(sql`ended_at IS NULL AND state IN ('leased', 'running')`)
    return {
      runners: up.length,
      slots: up.reduce((sum, { online }) => sum + (online?.slots ?? 0), 0),
      busy: live?.busy ?? 0,
      cliVersion: up.find(({ online }) => online?.cli)?.online?.cli ?? null,
    }
  }

  async find(ref: RunRef): Promise<RunRow | undefined> {
    const row = await findRun(this.#store.db, ref.tenant, ref.run)
    if (!row?.runner || (row.state !== 'leased' && row.state !== 'running')) return row
    const newer = (await this.#env.RUNNER.getByName(row.runner).row(ref)) as RunRow | undefined
    return newer?.fence === row.fence || (newer && isTerminal(newer.state))
      ? { ...newer, cancelRequestedAt: row.cancelRequestedAt }
      : row
  }

  async show(ref: RunRef): Promise<ShownRun | undefined> {
    const row = await this.find(ref)
    return row && { row, result: await resultBytes(this, row) }
  }

  /** From whoever has its events, so that a stream can end while the shared database is away. */
  async latest(row: RunRow): Promise<RunRow | undefined> {
    const known = row.runner ? ((await this.#env.RUNNER.getByName(row.runner).row(refOf(row))) as RunRow | undefined) : undefined
    return known ?? this.find(refOf(row))
  }

  async lastSeq(row: RunRow): Promise<number> {
    if (!row.runner) return (await logEnd(this.#store.db, row.id)).seq
    return this.#env.RUNNER.getByName(row.runner).lastSeq(refOf(row))
  }

  async event(row: RunRow, seq: number): Promise<Uint8Array | undefined> {
    if (!row.runner) return readEvent(this.#store.db, row.id, seq)
    return this.#env.RUNNER.getByName(row.runner).event(refOf(row), seq)
  }

  /** It never says that there is nothing yet: it waits. */
  follow(row: RunRow, afterSeq: number): Cursor {
    const stop = new AbortController()
    const pages = this.events(row, afterSeq, stop.signal)
    return {
      next: async () => {
        const { done, value } = await pages.next()
        return done ? 'end' : value
      },
      close() {
        stop.abort()
        // A generator that waits at its yield hears of no signal.
        void pages.return()
      },
    }
  }

  async *events(row: RunRow, afterSeq: number, signal: AbortSignal): AsyncGenerator<Page, void, undefined> {
    const ref = refOf(row)
    let now: RunRow | undefined = row
    let after = afterSeq
    let missing = 0
    while (now && !signal.aborted) {
      if (now.state === 'queued')
        await this.#env.POOL.getByName(`${now.tenant}/${now.pool}`).moved(
          { tenant: now.tenant, pool: now.pool },
          now.id,
          MOVED_MS,
        )
      else if (now.runner !== null && now.state !== 'offered') {
        let found = false
        for await (const chunks of this.#fromObject(now.runner, ref, after, signal)) {
          found = true
          yield chunks
          const last = chunks.at(-1)!
          if (isLast(last)) return
          after = last.first + last.count - 1
        }
        missing = found ? 0 : missing + 1
      }
      if (isTerminal(now.state) && (now.runner === null || missing > 0)) {
        for (;;) {
          const chunks = await readChunks(this.#store.db, ref.run, after, PAGE_BYTES)
          const last = chunks.at(-1)
          if (!last) break
          yield chunks
          after = last.first + last.count - 1
          if (isLast(last)) return
        }
        if (now.runner === null) return
      }
      if (missing > MISSING_TRIES) throw new Error('the object of its runner does not have the run')
      await new Promise((resolve) => setTimeout(resolve, AGAIN_MS))
      now = await this.find(ref)
    }
  }

  /** Ends early when the object was moved or restarted. */
  async *#fromObject(runner: string, { run, tenant }: RunRef, after: number, signal: AbortSignal): AsyncGenerator<EventChunk[]> {
    const query = new URLSearchParams({ run, tenant, after: String(after) })
    const response = await this.#env.RUNNER.getByName(runner).fetch(`http://runner/events?${query.toString()}`)
    if (!response.ok || !response.body) return
    const decoder = new ChunkDecoder()
    const reader = response.body.getReader()
    const leave = () => void reader.cancel().catch(() => undefined)
    signal.addEventListener('abort', leave)
    try {
      for (;;) {
        const { done, value } = await reader.read()
        if (done) return
        const chunks = decoder.push(value)
        if (chunks.length > 0) yield chunks
      }
    } catch {
      // Cut in the middle: what came is good, and what did not is asked for again.
      return
    } finally {
      signal.removeEventListener('abort', leave)
      leave()
    }
  }
}

const refOf = ({ id, tenant }: RunRow): RunRef => ({ run: id, tenant })
