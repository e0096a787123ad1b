/**
 * The object of one runner: its seat and core, its live runs and their events, in its own SQLite.
 *
 * It hibernates with its socket open when nothing runs, and may be gone at any other moment too: what must survive is in
 * the database before anybody hears of it, and the constructor takes it up again. The alarm is for what nobody else
 * would wake it for. Times are those of the wall clock, which here outlives the process.
 */
import { DurableObject } from 'cloudflare:workers'
import { objectMigrations } from '../../drizzle/object-migrations.gen.ts'
import { Fault } from '../../shared/faults.ts'
import { SUBPROTOCOL } from '../../shared/version.ts'
import { configSource, type ConfigStanding } from '../hub/config-sync.ts'
import { GroupCommitLog, sqlCommit, type Commit } from '../hub/event-log.ts'
import { Seat } from '../hub/seat.ts'
import { Wakeups } from '../hub/wakeups.ts'
import type { Claim, Dispatch, NewRun, OnlineRunner, RunnerIdentity, RunRef, RunRow } from '../ports.ts'
import { migrate } from '../store/migrate.ts'
import { logEnd, readEvent } from '../store/run-events.ts'
import { findRun, requestCancel, unwatchedRuns } from '../store/runs.ts'
import { AlarmClock } from './alarm-clock.ts'
import { plain, type Answer } from './answer.ts'
import type { Env } from './env.ts'
import { log } from './log.ts'
import { objectStore } from './object-store.ts'
import { ObjectSweep } from './object-sweep.ts'
import { Offers, type Sight, type Started } from './offers.ts'
import { platform } from './platform.ts'
import { Presence } from './presence.ts'
import { runStream } from './run-stream.ts'
import { RunnerSockets } from './runner-sockets.ts'
import { SeatRecord, type SeatRow } from './seat-record.ts'
import { Settlement } from './settlement.ts'
import { sharedStore } from './shared-store.ts'
import { sharedTreasury } from './treasury.ts'
import { waking } from './wake-outbox.ts'
import { attendanceOf } from './unwatched.ts'

/** While runs live, deadlines are looked at this often; an object that died with them is woken after the second. */
const TICK_MS = 1_000
const WAKE_MS = 30_000
const RETRY_MS = 5_000
/** `done` is held back until everybody can see the ending, but no longer than this. */
const SETTLE_MS = 1_000

export class RunnerDO extends DurableObject<Env> {
  readonly #own = objectStore(this.ctx.storage)
  readonly #platform = platform()
  readonly #wakeups = new Wakeups()
  readonly #treasury = sharedTreasury(this.env, this.#platform)
  readonly #record = new SeatRecord(this.#own)
  readonly #settlement = new Settlement(this.#own, () => sharedStore(this.env), log, waking(this.env, this.#platform))
  readonly #sockets = new RunnerSockets(this.ctx, this.env)
  readonly #alarms = new AlarmClock(this.ctx.storage)
  readonly #presence = new Presence(this.env, this.#record, () => this.#alarms.within(RETRY_MS))
  readonly #attendance = attendanceOf(this.env, this)
  readonly #sweep = new ObjectSweep(this.#own, this.env, this.#platform, this.#settlement, (run) => this.#attendance.watched(run))
  #seat: Seat | undefined
  #offers: Offers | undefined
  #ticker: ReturnType<typeof setInterval> | undefined
  /** Endings that are here, and perhaps not yet in the shared database. */
  readonly #ended = new Set<string>()
  #drains = 0
  readonly #commit: Commit = async (appends) => {
    const outcomes = await sqlCommit(this.#own, this.#platform, this.#settlement.owed)(appends)
    // An ending that is here although its sync failed is shown like any other, once it was read anew.
    for (const { run, ending } of appends) if (ending) this.#ended.add(run)
    await this.ctx.storage.sync()
    for (const { run, running, started, ending } of appends) {
      if (ending) this.#attendance.over(run)
      else if (running || started) this.#settlement.soon()
    }
    return outcomes
  }

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
    const watched = { own: this.#own, wakeups: this.#wakeups, attendance: this.#attendance }
    const events = (await this.row(ref)) && runStream(watched, ref, Number(url.searchParams.get('after')))
    return events ? new Response(events) : new Response(null, { status: 404 })
  }

  /** Writes the row of a run and offers it, if there is room at once. */
  async start(run: NewRun, claim: Claim | undefined): Promise<Started> {
    const seat = this.#awake()
    if (seat && this.#offers) return this.#offers.start(seat, run, claim)
    return { outcome: { is: 'full', code: 'no_runner' }, sight: null }
  }

  /** Offers a run whose row says so already. */
  async dispatch(d: Dispatch): Promise<{ answer: Answer<void>; sight: Sight | null }> {
    const seat = this.#awake()
    if (!seat || !this.#offers)
      return { answer: { ok: false, fault: plain(new Fault('no_runner', 'the runner is not connected')) }, sight: null }
    return this.#offers.dispatch(seat, d)
  }

  /** Resolves when the offer of this run, if it is just being made, was answered. */
  async answered(run: string): Promise<void> {
    await this.#offers?.answered(run)
  }

  /** An offer that nobody else remembers: unless it is just being made, the run waits again. */
  async giveBack(run: string, fence: number): Promise<void> {
    await this.#offers?.giveBack(run, fence)
  }

  /** A run whose shared row is long overdue: told again how it stands, or given back when it never arrived here. */
  async account(ref: RunRef, fence: number): Promise<void> {
    if (!(await this.row(ref))) return this.giveBack(ref.run, fence)
    await this.#settlement.owe(ref.run)
    await this.#settlement.settle()
    await this.#plan()
  }

  /** Nobody is to read the events of these any more: they are deleted, and their shared rows told so. */
  async forget(runs: readonly string[]): Promise<void> {
    await this.#sweep.forget(runs, Date.now())
    await this.#plan()
  }

  /** Somebody waits for its slots, or no longer does. */
  async wanted(by: boolean): Promise<Sight | null> {
    const seat = this.#awake()
    return (seat && this.#offers?.wanted(seat, by)) ?? null
  }

  async status(): Promise<OnlineRunner | null> {
    return this.#awake()?.online ?? null
  }

  /** Its row says so. */
  async drain(on: boolean): Promise<void> {
    this.#drains++
    await this.#record.cordon(on)
    this.#seat?.cordon(on)
  }

  async revoke(): Promise<void> {
    this.#seat?.revoke()
  }

  /** The files of its pool are others now. */
  async configChanged(): Promise<void> {
    await this.#awake()?.config.sync()
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
    const fence = (await this.row(ref))?.fence ?? (await this.#offers?.wish(ref.run))
    if (fence !== undefined) this.#awake()?.cancel(ref.run, fence)
  }

  /** Runs again after a kill, without being told so: everything in it may be done twice. */
  override async alarm(): Promise<void> {
    this.#alarms.wentOff()
    this.#awake()
    this.#pin()
    await this.#tidy()
  }

  override async webSocketMessage(ws: WebSocket, data: string | ArrayBuffer): Promise<void> {
    this.#sockets.push(ws, data)
    this.#pin()
  }

  override async webSocketClose(ws: WebSocket, code: number): Promise<void> {
    this.#sockets.closed(ws, code)
  }

  override async webSocketError(ws: WebSocket): Promise<void> {
    this.#sockets.closed(ws)
  }

  async #connect(request: Request): Promise<Response> {
    const { who, url } = JSON.parse(request.headers.get('x-runner') ?? '{}') as { who: RunnerIdentity; url: string }
    const drains = this.#drains
    const seat = this.#seat ?? this.#take(await this.#record.create(who))
    const { 0: client, 1: server } = new WebSocketPair()
    const conn = this.#sockets.open(server, seat, url)
    await this.#record.connected(conn)
    // Whoever drains it at this moment is newer than what was read before the way here.
    if (this.#drains === drains) await this.drain(who.drained ?? false)
    await this.ctx.storage.sync()
    return new Response(null, { status: 101, webSocket: client, headers: { 'sec-websocket-protocol': SUBPROTOCOL } })
  }

  /** Whatever this object was before it lost its memory. */
  async #wake(): Promise<void> {
    const row = await this.#record.find()
    if (!row) return
    const kept = this.#sockets.kept(row.conns)
    if (!kept && row.lostAt === null) {
      row.told = false
      row.lostAt = Date.now()
      await this.#record.lost(row.lostAt)
    }
    const seat = this.#take(row)
    if (kept) {
      const { conn, greeted } = kept.stood
      seat.core.relink({
        conn,
        hello: greeted ? (row.hello ?? undefined) : undefined,
        draining: row.draining,
        heardAt: this.#sockets.heardAt(kept.ws) ?? Date.now(),
      })
      this.#sockets.reopen(kept, seat)
      const config = await this.ctx.storage.get<ConfigStanding>('config')
      if (config?.conn === conn) seat.config.restore(config)
    }
    this.#presence.owed = !row.told
    await seat.restore()
    this.#attendance.restarted(await unwatchedRuns(this.#own.db))
    this.#pin()
    // Not before the object answers: there may be much to do.
    this.#platform.background(this.#tidy())
  }

  /** What nobody waits for. All of it may be done twice. */
  async #tidy(): Promise<void> {
    try {
      if (this.#seat && this.#presence.owed) await this.#presence.tell(this.#seat)
      if (await this.#settlement.settle()) await this.#record.forgetPruned()
      await this.#offers?.sweep()
      await this.#sweep.ifDue(Date.now())
    } catch (error) {
      // Not thrown: an alarm that fails is given up after a few attempts, and what is left is not.
      log.warn({ err: error }, 'an object could not do all that is due; it goes on later')
    }
    await this.#plan()
  }

  #take({ runner, tenant, pool, conns, cordoned, lostAt }: SeatRow): Seat {
    const who = { runner, tenant, pool }
    const offers = new Offers({
      own: this.#own,
      shared: () => sharedStore(this.env),
      pool: () => this.env.POOL.getByName(`${tenant}/${pool}`),
      who,
      sync: () => this.ctx.storage.sync(),
      left: (run) => this.#wakeups.wake(run),
      later: () => this.#platform.background(this.#alarms.within(RETRY_MS)),
    })
    const seat: Seat = new Seat(
      who,
      {
        store: offers.hubStore(() => seat),
        // An object hears nothing while it writes. Without a turn in between a commit held two messages, and a runner that had
        // more to say than 1,300 a second was all that its object ever heard: no request, no cancel.
        eventLog: new GroupCommitLog(this.#commit, () => new Promise((resolve) => setTimeout(resolve, 0))),
        treasury: this.#treasury,
        config: configSource(() => sharedStore(this.env)),
        platform: this.#platform,
        log,
        wake: (run) => this.#tell(run),
        now: () => Date.now(),
        on: {
          capacity: () => offers.capacity(seat),
          turnOver: () => offers.capacity(seat),
          requeued: (row) => this.#platform.background(offers.handOver(row)),
          presence: () => this.#platform.background(this.#presence.tell(seat)),
          configStands: (standing) => this.#platform.background(this.ctx.storage.put('config', standing)),
        },
      },
      { conns, offlineSince: lostAt ?? Date.now() },
    )
    this.#seat = seat
    this.#offers = offers
    seat.cordon(cordoned)
    return seat
  }

  /** The seat, knowing what the auto-response heard while nobody here was awake. */
  #awake(): Seat | undefined {
    const seat = this.#seat
    if (!seat) return undefined
    this.#sockets.freshen(seat)
    seat.tick()
    return seat
  }

  /** Keeps the object awake while it has live runs, and only then. */
  #pin(): void {
    const busy = (this.#seat?.core.busy ?? 0) > 0
    if (busy && this.#ticker === undefined) {
      this.#ticker = setInterval(() => {
        this.#awake()
        this.#pin()
      }, TICK_MS)
      this.#platform.background(this.#alarms.within(WAKE_MS))
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

  /** What is left to do when nobody calls. */
  async #plan(): Promise<void> {
    if ((this.#seat?.core.busy ?? 0) > 0) await this.#alarms.within(WAKE_MS)
    if (this.#presence.owed || (await this.#settlement.pending()) || (await this.#offers?.pending()))
      await this.#alarms.within(RETRY_MS)
    const oldest = await this.#record.oldestKept()
    if (oldest !== undefined) await this.#alarms.by(this.#sweep.dueAt(oldest, Date.now()))
  }
}
