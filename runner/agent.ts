/**
 * The runner's side of the protocol: offers, leases, cancels, and what to send when.
 *
 * It outlives connections. The link hands it each new transport and the router's messages; the runs, their spools and
 * their processes go on in between. A run that it knows is never started a second time.
 */
import { randomUUID } from 'node:crypto'
import { readdirSync, unlinkSync } from 'node:fs'
import { join } from 'node:path'
import { Fault } from '../shared/faults.ts'
import { RunnerRefusal, type AckEntry, type Hello, type Offer, type ToRouter, type ToRunner, type Welcome } from '../shared/frames.ts'
import type { ProviderReport } from '../shared/grants.ts'
import { GRACE_MS, HEARTBEAT_MS, LEASE_MS } from '../shared/limits.ts'
import { PROTO_MAX, PROTO_MIN, VERSION } from '../shared/version.ts'
import type { AgentOptions } from './agent-options.ts'
import { HeldRun, type Prepared } from './held-run.ts'
import { Sender, type Transport } from './sender.ts'
import { Spool } from './spool.ts'
import { undo } from './undo.ts'

export type { AgentOptions } from './agent-options.ts'

const TICK_MS = 1_000

type SentAt = { now: number; wall: number }

export class Agent {
  readonly #o: AgentOptions
  readonly #boot = randomUUID()
  readonly #runs = new Map<string, HeldRun>()
  /** Offers that are being prepared: an equal one is the same offer. */
  readonly #preparing = new Map<string, AbortController>()
  /** Of processes that are being prepared. */
  readonly #markers = new Set<string>()
  /** When each message that a lease may answer was sent. */
  readonly #sentAt = new Map<string, SentAt>()
  readonly #sender: Sender
  /** Runs whose files are on their way out. */
  readonly #leaving = new Set<Promise<void>>()
  #transport: Transport | undefined
  #welcomed = false
  #conns = 0
  #ids = 0
  #draining = false
  #tickStop: (() => void) | undefined
  #lastBeat = 0

  constructor(options: AgentOptions) {
    this.#o = options
    this.#sender = new Sender(options.clock)
  }

  get active(): number {
    return [...this.#runs.values()].filter((r) => r.active).length + this.#preparing.size
  }

  /** Nothing is running and everything is durable at the router. */
  get idle(): boolean {
    return this.#runs.size === 0 && this.#preparing.size === 0 && this.#leaving.size === 0
  }

  /** Takes up what an earlier process of this runner left behind, before the first connection: I6, I11. */
  async recover(): Promise<void> {
    const spools = readdirSync(this.#o.spoolDir).flatMap((name) => {
      if (!name.endsWith('.spool')) return []
      const spool = Spool.open(join(this.#o.spoolDir, name))
      if (!spool) {
        // Not even its intent was whole, so nobody was promised anything.
        this.#o.log('a spool without an intent is removed', { name })
        unlinkSync(join(this.#o.spoolDir, name))
      }
      return spool ?? []
    })
    await Promise.all(
      spools.map(async (spool) => {
        const killed = await this.#o.sweep(spool.intent.marker)
        this.#o.log('a run of an earlier process was taken up', { run: spool.intent.run, killed, started: spool.hasStarted, torn: spool.torn })
        this.#runs.set(key(spool.intent), this.#hold(spool))
      }),
    )
    this.#tickStop = this.#o.clock.after(TICK_MS, () => this.#tick())
  }

  /** A new connection; nothing but the hello is sent on it before the router's welcome. */
  connected(transport: Transport): void {
    this.disconnected()
    this.#transport = transport
    this.#sentAt.clear()
    const hello: Hello = {
      t: 'hello',
      proto: [PROTO_MIN, PROTO_MAX],
      boot: this.#boot,
      conn: ++this.#conns,
      agent: VERSION,
      cli: this.#o.cliVersion,
      os: this.#o.os,
      caps: this.#o.config ? ['config'] : [],
      slots: this.#o.slots,
      labels: this.#o.labels,
      provider: this.#o.provider,
      ...(this.#o.policy ? { policy: this.#o.policy } : {}),
      runs: [...this.#runs.values()].map((r) => r.held),
    }
    this.#send(hello, 'hello')
  }

  disconnected(): void {
    this.#transport = undefined
    this.#welcomed = false
    this.#sender.shut()
    // Without a lease nothing of them has started, and the router has given them up.
    for (const abort of this.#preparing.values()) abort.abort()
  }

  receive(message: Exclude<ToRunner, { t: 'token' } | { t: 'goaway' }>): void {
    switch (message.t) {
      case 'welcome':
        return this.#welcome(message)
      case 'offer':
        this.#offer(message).catch((error: unknown) => this.#o.log('an offer could not be answered', { run: message.run, err: error }))
        return
      case 'ack':
        return this.#acked(message.a)
      case 'lease': {
        const ageMs = this.#ageOf(message.re)
        for (const [run, fence, ttlMs] of message.l) this.#find({ run, fence })?.leased(ageMs, ttlMs)
        return
      }
      case 'cancel': {
        const held = this.#find(message)
        this.#preparing.get(key(message))?.abort()
        if (held) this.#end(held, 'cancelled', message.mode)
        return
      }
      case 'config': {
        const configured = this.#o.config?.take(message)
        if (configured) this.#send(configured)
        return
      }
      case 'revoke':
        this.#preparing.get(key(message))?.abort()
        return this.#drop(message, 'kill')
      case 'forget':
        return this.#drop(message, undefined)
      case 'err':
        return this.#o.log('the router reports an error', { code: message.code, detail: message.message })
    }
  }

  /** How a request of a run to its provider ended. It is news, not part of the log: without a link it is dropped. */
  report(report: ProviderReport): void {
    if (this.#welcomed) this.#send({ t: 'provider', ...report })
  }

  get draining(): boolean {
    return this.#draining
  }

  /** No new runs; what is running goes on. */
  drain(): void {
    this.#draining = true
    if (this.#welcomed) this.#send({ t: 'drain' })
  }

  /** Ends every run that is still going; their exits are spooled when this resolves. */
  async stop(): Promise<void> {
    for (const abort of this.#preparing.values()) abort.abort()
    await Promise.all([...this.#runs.values()].map((r) => r.end('runner_stopped', 'term')))
  }

  /** Markers of whatever may be alive. */
  get markers(): string[] {
    return [...this.#markers, ...[...this.#runs.values()].filter((r) => r.active).map((r) => r.marker)]
  }

  /** Lets go of every file and timer. The spools stay for the next process. */
  async close(): Promise<void> {
    if (this.#welcomed) this.#send({ t: 'bye' })
    this.#tickStop?.()
    this.disconnected()
    await Promise.all(this.#leaving)
    for (const held of this.#runs.values()) this.#sender.remove(held.outbox)
    await Promise.all([...this.#runs.values()].map((r) => r.release(false)))
    this.#runs.clear()
  }

  #welcome(message: Welcome): void {
    this.#welcomed = true
    for (const { run, fence, ack, part, do: what } of message.resume) {
      if (what === 'continue') {
        const held = this.#find({ run, fence })
        held?.resume(ack, part)
        if (held?.held.state === 'running' || held?.held.state === 'starting') this.#send({ t: 'starting', run, fence })
      } else {
        this.#drop({ run, fence }, what === 'revoke' ? 'kill' : undefined)
      }
    }
    if (this.#draining) this.#send({ t: 'drain' })
    if (this.#transport) this.#sender.open(this.#transport)
  }

  async #offer(offer: Offer): Promise<void> {
    const k = key(offer)
    const known = this.#runs.get(k)
    if (known?.active) return this.#accept(offer, known)
    if (known) return this.#reject(offer, new Fault('start_by', 'the run has ended here already'))
    if (this.#preparing.has(k)) return
    if (this.#draining) return this.#reject(offer, new Fault('draining', 'the runner takes no new runs'))
    if (this.active >= this.#o.slots) return this.#reject(offer, new Fault('busy', `all ${this.#o.slots} slots of the runner are taken`))
    const abort = new AbortController()
    this.#preparing.set(k, abort)
    const stopTimer = this.#o.clock.after(offer.start_by_ms, () => abort.abort())
    const marker = randomUUID()
    let spool: Spool | undefined
    let prepared: Prepared | undefined
    try {
      this.#markers.add(marker)
      const { run, fence, spec } = offer
      spool = Spool.create(join(this.#o.spoolDir, `${k}.spool`), { run, fence, tenant: spec.tenant, session: spec.session.id, marker })
      // The disk works meanwhile. Should the machine lose its power before the intent is there, nothing of the run is left to be found.
      const intended = spool.intended()
      intended.catch(() => undefined)
      prepared = await this.#o.prepare(offer, marker, abort.signal)
      await intended
      if (abort.signal.aborted) throw new Fault('start_by', 'the offer was withdrawn')
      const held = this.#hold(spool, prepared, spec.timeout_s * 1_000)
      this.#runs.set(k, held)
      this.#accept(offer, held)
    } catch (error) {
      const isOver = await undo([() => prepared?.process.cancel('kill')], this.#o)
      // By the marker in its spool the next start of the runner finds what could not be killed.
      await undo([() => prepared?.dispose(), () => (isOver ? spool?.remove() : spool?.close())], this.#o)
      this.#reject(offer, this.#asFault(error))
    } finally {
      stopTimer()
      this.#markers.delete(marker)
      this.#preparing.delete(k)
    }
  }

  #accept({ id, run, fence }: Offer, held: HeldRun): void {
    const { cwd, cliSession } = held
    this.#send({ t: 'accept', re: id, run, fence, cwd, ...(cliSession === undefined ? {} : { session: cliSession }) }, id)
  }

  #reject({ id, run, fence }: Offer, fault: Fault): void {
    const code = RunnerRefusal.safeParse(fault.code)
    this.#send({ t: 'reject', re: id, run, fence, code: code.success ? code.data : 'internal', message: fault.message.slice(0, 2_048) })
  }

  #asFault(error: unknown): Fault {
    if (error instanceof Fault) return error
    const { code } = error as NodeJS.ErrnoException
    this.#o.log('an offer could not be prepared', { err: error })
    return code === 'ENOSPC' || code === 'EDQUOT' ? new Fault('disk', 'the runner has no disk space left') : new Fault('internal')
  }

  #hold(spool: Spool, prepared?: Prepared, timeoutMs = 0): HeldRun {
    const events = {
      changed: (held: HeldRun) => this.#sender.pump(held.outbox),
      began: (held: HeldRun) => {
        if (this.#welcomed) this.#send({ t: 'starting', run: held.run, fence: held.fence })
        this.#sender.pump(held.outbox)
      },
      log: (message: string, fields: Record<string, unknown>) => this.#o.log(message, fields),
    }
    const held = new HeldRun({ spool, clock: this.#o.clock, events, timeoutMs, ...(prepared ? { prepared } : {}) })
    this.#sender.add(held.outbox)
    return held
  }

  /** How long ago the message was sent that a lease answers. After a sleep of the machine no age can be trusted. */
  #ageOf(re: string): number {
    const answered = re.startsWith('hello') ? 'hello' : re
    const sent = this.#sentAt.get(answered)
    if (!sent) return LEASE_MS
    if (answered !== 'hello') this.#sentAt.delete(answered)
    const age = this.#o.clock.now() - sent.now
    const wallAge = this.#o.clock.wall() - sent.wall
    return Math.abs(wallAge - age) > LEASE_MS / 2 ? LEASE_MS : age
  }

  #drop(ref: { run: string; fence: number }, kill: 'kill' | undefined): void {
    const held = this.#find(ref)
    if (!held) return
    // Nothing more of it is wanted, and what would be under way of it would hold up others.
    this.#sender.remove(held.outbox)
    const leaving = (async () => {
      if (kill) await held.end('cancelled', 'kill')
      this.#runs.delete(key(ref))
      await held.release(true)
    })()
      .catch((error: unknown) => this.#o.log('what a run left could not be removed', { run: ref.run, err: error }))
      .finally(() => this.#leaving.delete(leaving))
    this.#leaving.add(leaving)
  }

  #end(held: HeldRun, ...how: Parameters<HeldRun['end']>): void {
    held.end(...how).catch((error: unknown) => this.#o.log('a run could not be ended', { run: held.run, err: error }))
  }

  #acked(entries: readonly AckEntry[]): void {
    const outboxes = entries.flatMap(([run, fence, seq, part, window]) => {
      const held = this.#find({ run, fence })
      held?.acked(seq, part, window)
      return held?.outbox ?? []
    })
    this.#sender.relieved(outboxes)
  }

  #find(ref: { run: string; fence: number }): HeldRun | undefined {
    return this.#runs.get(key(ref))
  }

  #tick(): void {
    this.#tickStop = this.#o.clock.after(TICK_MS, () => this.#tick())
    for (const held of this.#runs.values()) {
      held.sync().catch((error: unknown) => this.#o.log('a spool could not be synced', { run: held.run, err: error }))
      if (held.active && held.sinceLeaseMs > LEASE_MS + GRACE_MS) this.#end(held, 'runner_stopped', 'interrupt', 'no router for too long')
    }
    const now = this.#o.clock.now()
    if (this.#welcomed && this.#runs.size > 0 && now - this.#lastBeat >= HEARTBEAT_MS) this.#beat(now)
  }

  #beat(now: number): void {
    this.#lastBeat = now
    const id = `h${++this.#ids}`
    const active = [...this.#runs.values()]
    this.#send(
      {
        t: 'hb',
        id,
        runs: active.map((r) => [r.run, r.fence, r.held.last]),
        free: Math.max(0, this.#o.slots - this.active),
        load: this.#o.load(),
        disk_free: this.#o.diskFree(),
      },
      id,
    )
  }

  /** `answeredBy`: a lease may answer this message, so its time counts. */
  #send(message: ToRouter, answeredBy?: string): void {
    if (answeredBy !== undefined) this.#sentAt.set(answeredBy, { now: this.#o.clock.now(), wall: this.#o.clock.wall() })
    this.#transport?.send(JSON.stringify(message))
  }
}

const key = (ref: { run: string; fence: number }) => `${ref.run}.${ref.fence}`
