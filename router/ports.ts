/**
 * What the router asks of its host. Everything above this file is the same on Node and on Workers; everything that
 * differs between them is behind one of these.
 */
import type { Context } from 'hono'
import type { SQL } from 'drizzle-orm'
import type { BaseSQLiteDatabase } from 'drizzle-orm/sqlite-core'
import type { BatchItem } from 'drizzle-orm/batch'
import type * as schema from '../drizzle/schema.ts'
import type { Configured, LocalProvider } from '../shared/frames.ts'
import type { Grants, ProviderReport } from '../shared/grants.ts'
import type { PolicyView } from '../shared/policy.ts'
import type { RunSpec } from '../shared/run-spec.ts'
import type { Narrowing, Rate } from '../shared/tenant-settings.ts'
import type { Recheck } from './guard/admission.ts'
import type { Identity } from './guard/identity.ts'
import type { SigningRing } from './guard/ring.ts'
import type { Candidate } from './core/placement.ts'
import type { ListedRun } from './store/run-pages.ts'
import type { Catalog } from './tenancy/catalog.ts'

export type Db = BaseSQLiteDatabase<'async', unknown, typeof schema>
export type Statement = BatchItem<'sqlite'>

/** Single-statement compare-and-set with RETURNING, or one atomic batch. No interactive transaction: D1 has none. */
export interface Store {
  readonly db: Db
  /** All or nothing, in order; resolves to one result per statement. */
  batch(statements: readonly Statement[]): Promise<unknown[]>
  /**
   * Reads what takes its time, such as sums over many rows, without holding up anything else; it sees what was committed
   * before. `tenant` is whose time it is; undefined: an operator's. Throws `busy` when too much of this waits already.
   */
  heavy<T>(query: SQL, tenant: string | undefined): Promise<T[]>
}

export interface RunnerIdentity {
  readonly runner: string
  readonly tenant: string
  readonly pool: string
  /** An admin wants it to take nothing new: as its row had it when it connected. */
  readonly drained?: boolean
}

/** A runner with what it says of itself, as far as it matters to who pays there. */
export interface Payee extends RunnerIdentity {
  /** Null: the machine has no login of its own. */
  readonly provider: LocalProvider | null
  /** Undefined: an older runner, which does not say. */
  readonly policy?: Pick<PolicyView, 'allow_private_base_urls'> | undefined
}

/** Which run, and of whom: a hub never looks at a run without its tenant. */
export interface RunRef {
  readonly run: string
  readonly tenant: string
}

export interface Dispatch extends RunRef {
  readonly runner: string
  readonly fence: number
  readonly spec: RunSpec
}

/** A piece of a run's log: `count` whole lines, each ended by `\n`, or the JSON of one mark without an end. */
export interface EventChunk {
  readonly kind: 'ev' | 'mark'
  readonly first: number
  readonly count: number
  readonly bytes: Uint8Array
}

/** Where somebody stands in the log of a run. */
export interface Cursor {
  /**
   * A page of what comes next, at once where it is at hand. Undefined: there is nothing yet, and whoever follows is woken when
   * there may be. `end`: behind the last event, or nothing more is to be heard here. One question at a time.
   */
  next(): Page | undefined | 'end' | Promise<Page | undefined | 'end'>
  close(): void
}
export type Page = readonly EventChunk[]

/** A runner that is connected now. `slots` and `busy` are hints: only the runner's own core admits. */
export interface OnlineRunner extends Candidate {
  readonly provider: LocalProvider | null
  readonly cliVersion: string | null
  readonly agentVersion: string
  /** What it said of the config files of its pool. */
  readonly config?: Pick<Configured, 'version' | 'error'>
}

export interface RunnerHub {
  /** Takes over an authenticated upgrade request. */
  connect(c: Context, who: RunnerIdentity): Promise<Response>
  /** A cursor over the log of a run as its row was a moment ago: everything after `afterSeq`, then what follows, until the last event. */
  follow(row: RunRow, afterSeq: number, wake: () => void): Cursor
  /** The same for whoever reads it in one go. */
  events(row: RunRow, afterSeq: number, signal: AbortSignal): AsyncIterable<Page>
  /** Tells the runner of a cancel that is durable already. */
  cancel(ref: RunRef): Promise<void>
  /** Counts a subscriber of the run; when the last one has left, its `on_disconnect` begins to count. Call the result once. */
  attend(ref: RunRef): () => void
  online(tenant: string): Promise<OnlineRunner[]>
  /** Its row says whether it takes new runs; whoever holds its connection is told, if somebody does. */
  drain(runner: string, on: boolean): Promise<void>
  /** Its row says that it was revoked: its connection ends now (4403). */
  revoke(runner: string): Promise<void>
  /** The files of a pool are others now: its runners that are connected are told. Each run finds them as they were when it was offered. */
  configChanged(tenant: string, pool: string): Promise<void>
  /** Over all tenants, for health checks: numbers only. */
  load(): Promise<{ runners: number; slots: number; busy: number; cliVersion: string | null }>
}

export type RunRow = typeof schema.runs.$inferSelect
export type RunState = RunRow['state']

/** A run as it is submitted: everything that its row holds from the start. */
export type NewRun = Pick<
  RunRow,
  'id' | 'tenant' | 'subject' | 'token' | 'session' | 'pool' | 'labels' | 'bound' | 'needs' | 'priority' | 'queueUntil' | 'timeoutS' | 'onDisconnectMs' | 'model' | 'metadata' | 'origin' | 'batch' | 'batchIndex' | 'task' | 'webhook' | 'createdAt'
> & { readonly spec: RunSpec }

/** An `Idempotency-Key` and what was asked with it. */
export interface Claim {
  readonly key: string
  /** SHA-256 of the parsed body, in hex. */
  readonly hash: string
}

/** A run as it is looked at: what clients see of its row, and the line of its result, if there is one and it is kept. */
export interface ShownRun {
  readonly row: ListedRun & Place
  readonly result: Uint8Array | undefined
}

/** Where a run stands, and what of it can be looked up. A foreign id is an unknown one. */
export interface Records {
  find(ref: RunRef): Promise<RunRow | undefined>
  show(ref: RunRef): Promise<ShownRun | undefined>
  /** A run that was found before, as it is now. */
  latest(row: RunRow): Promise<RunRow | undefined>
  /** Its newest whole event that is durable; 0 before the first. */
  lastSeq(row: RunRow): Promise<number>
  /** One event, or undefined if it is not (or no longer) kept. A line ends with its `\n`. */
  event(row: RunRow, seq: number): Promise<Uint8Array | undefined>
}

/** What leads to the line that a run waits in. */
export type Place = Pick<RunRow, 'id' | 'tenant' | 'pool'>

/**
 * Where runs wait for a slot. The database is the record of who waits; a restart loses nothing but the sockets of those
 * who were watching.
 */
export interface WaitingLine {
  /** Writes the row and begins to place it. `taken`: the claim's key or the id is in use, and nothing was written. */
  submit(run: NewRun, claim: Claim | undefined): Promise<'submitted' | 'taken'>
  /**
   * `accepted` once the lease is durable; throws the fault of a refusal, after which nothing of the run is left. With
   * `placed` it is `waiting` as soon as there is no slot to be had at once. `unknown`: not waiting here (any more).
   */
  outcome(ref: RunRef, until: 'accepted' | 'placed', signal: AbortSignal): Promise<'accepted' | 'waiting' | 'unknown'>
  /** How many of the same tenant and pool are ahead, counted from 1; undefined when it does not wait. */
  position(place: Place): Promise<number | undefined>
  /** Takes it out of the line, as cancelled. False: it does not wait. */
  cancel(ref: RunRef): Promise<boolean>
  /** Its row has another priority by now. Where it does not wait, nothing happens. */
  reprioritise(place: Place): Promise<void>
}

/** What runs pay for their tokens with. */
export interface Treasury {
  /**
   * For one offer: which providers it may use, their keys sealed to this runner and run. Undefined: the machine's own login
   * pays. Throws `unknown_provider` when the tenant has providers but none for this run, `policy` when only the owner of
   * the machine is in the way, and `storage`.
   */
  grants(d: Dispatch, to: Payee): Promise<Grants | undefined>
  /** What was offered is leased: from now on its session is with the provider that was chosen. */
  begun(ref: RunRef): void
  /** The run was refused, taken back, or is over: what it was to try is for the next one. Never throws. */
  over(ref: RunRef): void
  /** What the gateway of a runner says of a request of one of its live runs. Never throws. */
  report(tenant: string, report: ProviderReport): void
}

/** Keeps secrets that have to be read again, and recognises those that have not. */
export interface Vault {
  /** Names the key that seals now. */
  readonly kid: string
  /** What is sealed for one `context` opens for no other. */
  seal(context: string, secret: string): Promise<string>
  /** Throws when it was sealed by a key that is not here, for another context, or by nobody. */
  open(context: string, sealed: string): Promise<string>
  /** The same for the same secret and router; without the router's key it cannot be computed, and from it nothing can be read. */
  hash(secret: string): Promise<string>
}

/** One request against one limit. */
export interface Draw {
  readonly key: string
  readonly rate: Rate
}

/** `remaining` and `resetMs` of the limit that is the nearest to its end. */
export type RateDecision =
  | { readonly ok: true; readonly remaining: number; readonly resetMs: number; readonly limit: Draw }
  | { readonly ok: false; readonly retryAfterMs: number; readonly limit: Draw }

export interface Limiter {
  /** Counts one request against all of these, or, when one of them is used up, against none. */
  take(tenant: string, draws: readonly [Draw, ...Draw[]]): Promise<RateDecision>
}

export interface Platform {
  /** Milliseconds since 1970. */
  now(): number
  /** 32 hex digits that sort by time. */
  id(): string
  /** In [0, 1). */
  random(): number
  /** Work that outlives the request. Its failure is logged. */
  background(work: Promise<unknown>): void
  /** The address that the request came from, where the host knows. */
  clientIp?(c: Context): string | undefined
  /** Seconds since the process started, and its memory in bytes; zeros where the host does not know. */
  vitals(): { uptimeS: number; memory: { rss: number; heapTotal: number; heapUsed: number; external: number; arrayBuffers: number } }
}

export interface Log {
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
}

export interface RouterSettings {
  /** Where clients reach us, if that is not where we listen: `https://runs.example.com`. */
  readonly publicUrl: string | undefined
  /** Host names in lower case, without port, that a request may be addressed to. */
  readonly allowedHosts: readonly string[]
  readonly corsOrigins: readonly string[]
  /** Default wall time of a run. */
  readonly timeoutS: number
  /** A subscriber that takes nothing for so long is let go; 30 s unless told otherwise. */
  readonly blockedMs?: number | undefined
  /** A silent stream says that it lives this often; 15 s unless told otherwise. */
  readonly commentEveryMs?: number | undefined
}

export interface Deps {
  readonly store: Store
  readonly hub: RunnerHub
  readonly line: WaitingLine
  readonly records: Records
  readonly platform: Platform
  /** What signs our tokens, and tells them from others. */
  readonly keys: SigningRing
  readonly identity: Identity
  readonly vault: Vault
  readonly catalog: Catalog
  readonly limiter: Limiter
  /** Counts clients by their addresses, where nothing in front of the host does. */
  readonly addresses?: Limiter | undefined
  readonly settings: RouterSettings
  readonly log: Log
  /** The host's own coarse limit in front of everything, where it has one. False: too many requests. */
  readonly gate?: ((request: Request) => Promise<boolean>) | undefined
  /** Where the host has one. */
  readonly config?: ConfigSource | undefined
  /** Sends webhooks. It looks by itself now and then, so that telling it only saves time. */
  readonly outbox?: { nudge(tenant: string): void } | undefined
  /** The content of a file that belongs to a page of ours, by its name; undefined: it was built without it. */
  readonly assets?: ((name: string) => Promise<ReadableStream<Uint8Array> | Uint8Array<ArrayBuffer> | undefined>) | undefined
}

/** A file that says what the admin API would. */
export interface ConfigSource {
  readonly file: string
  /** Reads it now. `changed`: it was applied, as its content is another one or by `force`. */
  reload(force?: boolean): Promise<{ readonly changed: boolean; readonly changes: readonly string[]; readonly warnings: readonly string[] }>
}

/** Who is calling, as far as its token proves. */
export interface Principal {
  readonly kind: 'app' | 'admin' | 'runner'
  readonly tenant: string
  readonly subject: string
  readonly scopes: ReadonlySet<string>
  readonly jti: string
  /** What it may not go beyond, whatever its scopes say. */
  readonly narrowing: Narrowing
  /** Milliseconds since 1970. */
  readonly issuedAt: number
  readonly expiresAt: number
  /** Whose word it is: ours, a trusted issuer's, or a key of an older server. */
  readonly from: 'router' | 'issuer' | 'credential'
  /** Runners only. */
  readonly pool: string | undefined
}

export interface Variables {
  deps: Deps
  principal: Principal
  /** Throws when the principal would not be let in any more. For answers that take their time. */
  recheck: Recheck
  requestId: string
  /** The path is that of a dialect which is switched off. */
  silent?: boolean
}
export type AppEnv = { Variables: Variables; Bindings: object }
