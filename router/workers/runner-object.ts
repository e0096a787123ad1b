/**
 * The object of one runner: its socket, its seat and core, its live runs and their events, in its own SQLite.
 *
 * It hibernates with its socket open when nothing runs, and may be gone at any other moment too: what must survive is in
 * the database before anybody hears of it, and the constructor takes it up again. The alarm is for what nobody else
 * would wake it for. Times are those of the wall clock, which here outlives the process.
 */
import { DurableObject } from 'cloudflare:workers'
import { objectMigrations } from '../../drizzle/object-migrations.gen.ts'
import { CLOSE } from '../../shared/frames.ts'
import { SUBPROTOCOL } from '../../shared/version.ts'
import { RUNNER_TOKEN_TTL_S } from '../../shared/runner-auth.ts'
import { isTerminal } from '../core/run-state.ts'
import { refreshToken } from '../guard/assertion.ts'
import { Attendance } from '../hub/attendance.ts'
import { GroupCommitLog, sqlCommit } from '../hub/event-log.ts'
import { followLog } from '../hub/follow-log.ts'
import { Inbox, type Standing, type Wire } from '../hub/inbox.ts'
import { Retention } from '../hub/retention.ts'
import { Seat } from '../hub/seat.ts'
import { Wakeups } from '../hub/wakeups.ts'
import type { Claim, Dispatch, NewRun, OnlineRunner, RunnerIdentity, RunRef, RunRow } from '../ports.ts'
import { migrate } from '../store/migrate.ts'
import { logEnd, readChunks, readEvent } from '../store/run-events.ts'
import { touchRunner } from '../store/runners.ts'
import { findRun, requestCancel, unwatchedRuns } from '../store/runs.ts'
import type { Answer } from './answer.ts'
import { encodeChunks } from './chunk-stream.ts'
import { settingsOf, type Env } from './env.ts'
import { log } from './log.ts'
import { objectStore } from './object-store.ts'
import { Offers, sightOf, type Sight, type Started } from './offers.ts'
import { keysOf, platform } from './platform.ts'
import { SeatRecord } from './seat-record.ts'
import { Settlement } from './settlement.ts'
import { sharedStore } from './shared-store.ts'

/** While runs live, deadlines are looked at this often. */
const TICK_MS = 1_000
/** And an object that died with them is woken after this long. */
const WAKE_MS = 30_000
const RETRY_MS = 5_000
/** `done` is held back until everybody can see the ending, but no longer than this. */
const SETTLE_MS = 1_000
/** After a restart, subscribers have this long to come back before `on_disconnect` takes them for gone. */
const RETURN_MS = 30_000
const HOUR_MS = 3_600_000
const PAGE_BYTES = 256 * 1024

type Attachment = Standing & { readonly url: string }

export class RunnerDO extends DurableObject<Env> {
  readonly #own = objectStore(this.ctx.storage)
  readonly #platform = platform()
  readonly #wakeups = new Wakeups()
  readonly #record = new SeatRecord(this.#own)
  readonly #settlement = new Settlement(this.#own, () => sharedStore(this.env), log)
  readonly #inboxes = new Map<WebSocket, Inbox>()
  readonly #attendance = new Attendance({
    patienceMs: async (ref) => {
      const row = await this.row(ref)
      return row && !isTerminal(row.state) && row.onDisconnectMs !== null ? row.onDisconnectMs : undefined
    },
    abandoned: async (ref) => {
      if (await requestCancel(sharedStore(this.env).db, ref.tenant, ref.run, Date.now())) await this.cancel(ref)
    },
    failed: (error) => log.error({ err: error }, 'a run that nobody watches could not be ended'),
  })
  readonly #retention = new Retention({
    store: this.#own,
    platform: this.#platform,
    log,
    keep: settingsOf(this.env).keep,
    watched: (run) => this.#attendance.watched(run),
    clock: () => Date.now(),
  })
  #seat: Seat | undefined
  #offers: Offers | undefined
  #ticker: ReturnType<typeof setInterval> | undefined
  /** Endings that are here, and perhaps not yet in the shared database. */
  readonly #ended = new Set<string>()
  /** What changed last was not told to its pool. */
  #unseen = false

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env)
    ctx.setWebSocketAutoResponse(new WebSocketRequestResponsePair('ping', 'pong'))
    void ctx.blockConcurrencyWhile(async () => {
      await migrate(this.#own, objectMigrations)
      await this.#wake()
    })
  }

  /** The socket of the runner, already authenticated, or the events of a run as a stream of chunks. */
  override async fetch(request: Request): Promise<Response> {
    const url = new URL(request.url)
    if (url.pathname === '/connect') return this.#connect(request)
    const ref = { run: url.searchParams.get('run') ?? '', tenant: url.searchParams.get('tenant') ?? '' }
    if (!(await this.row(ref))) return new Response(null, { status: 404 })
    return new Response(this.#events(ref, Number(url.searchParams.get('after'))))
  }

  /** Writes the row of a run and offers it, if there is room at once. */
  async start(run: NewRun, claim: Claim | undefined): Promise<Started> {
    const seat = this.#awake()
    return seat && this.#offers ? this.#offers.start(seat, run, claim) : { outcome: { is: 'full', code: 'no_runner' }, sight: null }
  }

  /** Offers a run whose row says so already. */
  async dispatch(d: Dispatch): Promise<{ answer: Answer<void>; sight: Sight | null }> {
    const seat = this.#awake()
    if (!seat || !this.#offers) return { answer: { ok: false, fault: { code: 'no_runner', message: 'the runner is not connected', mayStart: false, extra: '{}' } }, sight: null }
    return this.#offers.dispatch(seat, d)
  }

  /** Resolves when the offer of this run, if it is just being made, was answered. */
  async answered(run: string): Promise<void> {
    await this.#offers?.answered(run)
  }

  /** An offer that nobody else remembers. True: it is none of ours, and the run waits again. */
  async giveBack(run: string, fence: number): Promise<boolean> {
    return this.#offers?.giveBack(run, fence) ?? true
  }

  /** Somebody waits for its slots, or no longer does. */
  async wanted(by: boolean): Promise<Sight | null> {
    const seat = this.#awake()
    return seat ? (this.#offers?.wanted(seat, by) ?? null) : null
  }

  async status(): Promise<OnlineRunner | null> {
    return this.#awake()?.online ?? null
  }

  async row(ref: RunRef): Promise<RunRow | undefined> {
    return findRun(this.#own.db, ref.tenant, ref.run)
  }

  async lastSeq(ref: RunRef): Promise<number> {
    return (await this.row(ref)) ? (await logEnd(this.#own.db, ref.run)).seq : 0
  }

  async event(ref: RunRef, seq: number): Promise<Uint8Array | undefined> {
    return (await this.row(ref)) ? readEvent(this.#own.db, ref.run, seq) : undefined
  }

  /** The wish is in the shared database already. */
  async cancel(ref: RunRef): Promise<void> {
    if (await requestCancel(this.#own.db, ref.tenant, ref.run, Date.now())) await this.ctx.storage.sync()
    const fence = (await this.row(ref))?.fence ?? (await this.#offers?.fenceOf(ref.run))
    if (fence !== undefined) this.#awake()?.cancel(ref.run, fence)
  }

  /** Runs again after a kill, without being told so: everything in it may be done twice. */
  override async alarm(): Promise<void> {
    this.#awake()
    this.#pin()
    await this.#tidy()
  }

  override async webSocketMessage(ws: WebSocket, data: string | ArrayBuffer): Promise<void> {
    this.#inboxes.get(ws)?.push(data)
    this.#pin()
  }

  override async webSocketClose(ws: WebSocket, code: number): Promise<void> {
    this.#inboxes.get(ws)?.closed()
    this.#inboxes.delete(ws)
    closeQuietly(ws, code === 1005 || code === 1006 ? 1000 : code, '')
  }

  override async webSocketError(ws: WebSocket): Promise<void> {
    this.#inboxes.get(ws)?.closed()
    this.#inboxes.delete(ws)
  }

  async #connect(request: Request): Promise<Response> {
    const { who, url } = JSON.parse(request.headers.get('x-runner') ?? '{}') as { who: RunnerIdentity; url: string }
    const seat = this.#seat ?? (await this.#take(await this.#record.create(who)))
    const { 0: client, 1: server } = new WebSocketPair()
    this.ctx.acceptWebSocket(server)
    const inbox = this.#inbox(server, seat, url)
    inbox.open(wire(server), RUNNER_TOKEN_TTL_S * 1_000)
    server.serializeAttachment({ ...inbox.standing, url } satisfies Attachment)
    await this.#record.connected(inbox.conn)
    await this.ctx.storage.sync()
    return new Response(null, { status: 101, webSocket: client, headers: { 'sec-websocket-protocol': SUBPROTOCOL } })
  }

  #inbox(ws: WebSocket, seat: Seat, url: string): Inbox {
    const inbox = new Inbox({
      seat: () => seat,
      refresh: async (assertion) => {
        const deps = { store: sharedStore(this.env), platform: this.#platform, keys: await keysOf(this.env), settings: settingsOf(this.env) }
        return refreshToken(deps, assertion, seat.who.runner, url)
      },
      log,
      now: () => Date.now(),
      stands: (standing) => ws.serializeAttachment({ ...standing, url } satisfies Attachment),
    })
    this.#inboxes.set(ws, inbox)
    return inbox
  }

  /** Whatever this object was before it lost its memory. */
  async #wake(): Promise<void> {
    const row = await this.#record.find()
    if (!row) return
    const sockets = this.ctx.getWebSockets().map((ws) => ({ ws, stood: ws.deserializeAttachment() as Attachment }))
    const newest = sockets.find(({ stood }) => stood.conn === row.conns)
    for (const { ws } of sockets) if (ws !== newest?.ws) closeQuietly(ws, CLOSE.superseded, 'a newer connection took over')
    if (!newest && row.lostAt === null) {
      row.lostAt = Date.now()
      await this.#record.lost(row.lostAt)
    }
    const seat = await this.#take(row)
    if (newest) {
      const { ws, stood } = newest
      seat.core.relink({ conn: stood.conn, hello: stood.greeted ? (row.hello ?? undefined) : undefined, draining: row.draining, heardAt: this.#heardAt(ws) ?? Date.now() })
      this.#inbox(ws, seat, stood.url).reopen(wire(ws), stood)
    }
    await seat.restore()
    // Its pool may have heard of it last before we died.
    this.#unseen = true
    for (const { id, tenant, onDisconnectMs } of await unwatchedRuns(this.#own.db)) this.#attendance.unwatched({ run: id, tenant }, Math.max(RETURN_MS, onDisconnectMs ?? 0))
    this.#pin()
    // Not before the object answers: there may be much to do.
    this.#platform.background(this.#tidy())
  }

  /** What nobody waits for. All of it may be done twice. */
  async #tidy(): Promise<void> {
    if (this.#seat && this.#unseen) await this.#present(this.#seat)
    await this.#settlement.settle()
    await this.#offers?.sweep()
    const since = Date.now()
    await this.#retention.sweep()
    await this.#settlement.owePruned(since)
    if (await this.#settlement.settle()) await this.#record.forgetPruned()
    await this.#plan()
  }

  async #take({ runner, tenant, pool, conns, lostAt }: { runner: string; tenant: string; pool: string; conns: number; lostAt: number | null }): Promise<Seat> {
    const who = { runner, tenant, pool }
    const offers = new Offers({
      own: this.#own,
      shared: () => sharedStore(this.env),
      pool: () => this.env.POOL.getByName(`${tenant}/${pool}`),
      who,
      sync: () => this.ctx.storage.sync(),
      plan: () => this.#platform.background(this.#plan()),
    })
    const seat: Seat = new Seat(
      who,
      {
        store: offers.hubStore(() => seat),
        eventLog: new GroupCommitLog(
          async (appends) => {
            const outcomes = await sqlCommit(this.#own, this.#platform, this.#settlement.owed)(appends)
            await this.ctx.storage.sync()
            for (const { run, running, started, ending } of appends) {
              if (ending) this.#ended.add(run)
              else if (running || started) this.#settlement.soon()
            }
            return outcomes
          },
          () => Promise.resolve(),
        ),
        platform: this.#platform,
        log,
        wake: (run) => this.#tell(run),
        now: () => Date.now(),
        on: {
          capacity: () => offers.capacity(seat),
          turnOver: () => offers.capacity(seat),
          requeued: (row) => this.#platform.background(offers.handOver(row, [])),
          presence: () => this.#platform.background(this.#present(seat)),
        },
      },
      { conns, offlineSince: lostAt ?? Date.now() },
    )
    this.#seat = seat
    this.#offers = offers
    return seat
  }

  /** The seat, knowing what the auto-response heard while nobody here was awake. */
  #awake(): Seat | undefined {
    const seat = this.#seat
    if (!seat) return undefined
    for (const [ws, inbox] of this.#inboxes) {
      const at = this.#heardAt(ws)
      if (at !== undefined) seat.heard(inbox.conn, at)
    }
    seat.tick()
    return seat
  }

  #heardAt(ws: WebSocket): number | undefined {
    return this.ctx.getWebSocketAutoResponseTimestamp(ws)?.getTime()
  }

  /** Keeps the object awake while it has live runs, and only then. */
  #pin(): void {
    const busy = (this.#seat?.core.busy ?? 0) > 0
    if (busy && this.#ticker === undefined) {
      this.#ticker = setInterval(() => {
        this.#awake()
        this.#pin()
      }, TICK_MS)
      this.#platform.background(this.#plan())
    } else if (!busy && this.#ticker !== undefined) {
      clearInterval(this.#ticker)
      this.#ticker = undefined
    }
  }

  /** Wakes whoever follows the run; behind its ending, when everybody else can see it too. */
  #tell(run: string): void {
    if (!this.#ended.delete(run)) return this.#wakeups.wake(run)
    const seen = Promise.race([this.#settlement.settle(), new Promise((resolve) => setTimeout(resolve, SETTLE_MS))])
    this.#platform.background(
      seen.then(() => {
        this.#wakeups.wake(run)
        return this.#plan()
      }),
    )
  }

  /** It came or went: for our own memory, for its pool, and for the row of the runner. */
  async #present(seat: Seat): Promise<void> {
    const { online, core } = seat
    await this.#record.present(core.hello, core.draining, Date.now())
    try {
      await this.env.POOL.getByName(`${seat.who.tenant}/${seat.who.pool}`).seen({ tenant: seat.who.tenant, pool: seat.who.pool }, seat.who.runner, sightOf(online))
      await touchRunner(sharedStore(this.env).db, seat.who.runner, seat.hint, Date.now())
      this.#unseen = false
    } catch (error) {
      log.warn({ err: error, runner: seat.who.runner }, 'its pool could not be told of a runner; it is tried again')
      this.#unseen = true
      await this.#plan()
    }
  }

  #events(ref: RunRef, after: number): ReadableStream<Uint8Array> {
    const stop = new AbortController()
    const leave = this.#attendance.enter(ref)
    const read = (run: string, from: number, maxBytes: number) => readChunks(this.#own.db, run, from, maxBytes)
    const pages = followLog({ readChunks: read }, this.#wakeups, ref.run, after, stop.signal, PAGE_BYTES)
    const end = () => {
      stop.abort()
      void pages.return(undefined)
      leave()
    }
    return new ReadableStream<Uint8Array>(
      {
        async pull(out) {
          const page = await pages.next().catch((error: unknown) => {
            log.error({ err: error, run: ref.run }, 'a stream was cut')
            return undefined
          })
          if (page?.done === false) return out.enqueue(encodeChunks(page.value))
          end()
          if (page) out.close()
          else out.error(new Error('the events could not be read'))
        },
        cancel: end,
      },
      { highWaterMark: 1 },
    )
  }

  /** The alarm is for what is left to do when nobody calls: an earlier one stays. */
  async #plan(): Promise<void> {
    const now = Date.now()
    const due: number[] = []
    if ((this.#seat?.core.busy ?? 0) > 0) due.push(now + WAKE_MS)
    if (this.#unseen || (await this.#settlement.pending()) || (await this.#offers?.pending())) due.push(now + RETRY_MS)
    const oldest = await this.#record.oldestKept()
    if (oldest !== undefined) due.push(Math.max(now + HOUR_MS, oldest + settingsOf(this.env).keep.ageMs))
    if (due.length === 0) return
    const next = Math.min(...due)
    const planned = await this.ctx.storage.getAlarm()
    if (planned === null || planned < now || next < planned) await this.ctx.storage.setAlarm(next)
  }
}

function wire(ws: WebSocket): Wire {
  return {
    send(data) {
      // A socket that has just closed throws; its close event is under way.
      try {
        ws.send(data)
      } catch {
        return
      }
    },
    close: (code, reason) => closeQuietly(ws, code, reason),
  }
}

function closeQuietly(ws: WebSocket, code: number, reason: string): void {
  try {
    ws.close(code, reason)
  } catch {
    // It is closed already.
  }
}
