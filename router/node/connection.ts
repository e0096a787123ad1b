/**
 * The one connection to the embedded database, and the one place where its trouble gets a name: what the database could
 * not do for a reason outside the statement is the fault `storage`; an error of the statement itself stays what it is.
 *
 * A lock that somebody else holds is waited for, for a while, without blocking the event loop. Nothing is retried that
 * may have happened: a refused lock means that the statement, or the whole batch, was rolled back.
 */
import { LibsqlError, type Client, type InArgs, type InStatement } from '@libsql/client'
import { Fault } from '../../shared/faults.ts'
import { Driver, type Rows } from './driver.ts'

/** A wait inside SQLite blocks every stream of the process, so there is none: waiting is done here. */
const LOCK_TIMEOUT_MS = 0
/** How long a statement waits for somebody else's lock before its caller hears of it. */
export const PATIENCE_MS = 2_000
const PROBE_MS = 25
/** The log is mostly chunks of 64 KiB: in SQLite's own 4 KiB pages writing one costs a third more, and small rows cost the same. */
const PAGE_BYTES = 16 * 1024
/** What is copied from the log of SQLite into the database at a time, on the event loop: as much as with its own pages. */
const CHECKPOINT_BYTES = 4 * 1024 * 1024
const RETRY_AFTER_S = 2

/** The part of a libSQL client that drizzle uses outside interactive transactions. */
export interface Executor {
  execute(statement: InStatement | string, args?: InArgs): Promise<Rows>
  batch(...args: Parameters<Client['batch']>): Promise<Rows[]>
}

export class Connection implements Executor {
  readonly #path: string
  #driver: Driver
  /** While somebody else holds the write lock: resolves when it is free or cannot be asked for. */
  #locked: Promise<void> | undefined
  #closed = false

  /** One connection: PRAGMAs belong to it, and two would wait for each other's write lock. */
  constructor(path: string) {
    this.#path = path
    this.#driver = new Driver(path, { timeout: LOCK_TIMEOUT_MS })
  }

  /** For PRAGMAs and the like, before anything else runs. */
  async configure(): Promise<void> {
    // Of a file that is there already nothing changes: the size of its pages is what it began with.
    await this.#try(true, () => this.#driver.exec(`PRAGMA page_size = ${PAGE_BYTES}; PRAGMA journal_mode = WAL`))
    setUp(this.#driver)
  }

  execute(statement: InStatement | string, args?: InArgs): Promise<Rows> {
    const text = typeof statement === 'string' ? statement : statement.sql
    return this.#try(!/^\s*select\b/i.test(text), () => this.#driver.execute(statement, args))
  }

  batch(...[statements, mode = 'deferred']: Parameters<Client['batch']>): Promise<Rows[]> {
    return this.#try(true, () => this.#driver.batch(statements, mode))
  }

  /**
   * A fresh connection in place of one that met a lock. libsql does not reset the statement that was refused, so the old
   * one keeps its snapshot: it refuses every later write (SQLITE_BUSY_SNAPSHOT) and reads what is out of date.
   */
  renew(): void {
    const fresh = new Driver(this.#path, { timeout: LOCK_TIMEOUT_MS })
    setUp(fresh)
    this.#driver.close()
    this.#driver = fresh
  }

  close(): void {
    this.#closed = true
    this.#driver.close()
  }

  async #try<T>(writes: boolean, work: () => T): Promise<T> {
    const until = performance.now() + PATIENCE_MS
    for (;;) {
      // In WAL mode readers pass a writer.
      if (writes && this.#locked && !(await before(until, this.#locked))) throw storage(new Error('the database is locked'))
      if (this.#closed) throw storage(new Error('the database is closed'))
      try {
        return work()
      } catch (error) {
        const what = kindOf(error)
        if (what === 'statement') throw error
        if (what === 'trouble') throw storage(error)
        if (performance.now() >= until) throw storage(error)
        this.#locked ??= this.#waitOut().finally(() => (this.#locked = undefined))
        if (!writes) await pause(PROBE_MS)
      }
    }
  }

  /**
   * Asks for the lock in a way that leaves no statement behind when it is refused: `exec` of both in one string. Renewing
   * instead would leak two file descriptors each time, until the next garbage collection.
   */
  async #waitOut(): Promise<void> {
    let isFresh = false
    while (!this.#closed) {
      try {
        if (!isFresh) this.renew()
        isFresh = true
        this.#driver.exec('BEGIN IMMEDIATE; ROLLBACK')
        break
      } catch (error) {
        if (kindOf(error) === 'trouble') break
        // A reader has met a lock on the new connection too.
        isFresh &&= error instanceof LibsqlError && error.extendedCode === 'SQLITE_BUSY'
        await pause(PROBE_MS)
      }
    }
  }
}

/** The event log promises that what was acknowledged survives a power cut. */
function setUp(driver: Driver): void {
  const [{ page_size: pageBytes } = { page_size: PAGE_BYTES }] = driver.execute('PRAGMA page_size').rows
  driver.exec(`PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = ${CHECKPOINT_BYTES / Number(pageBytes)}`)
}

/** What the database could not do for a reason outside the statement. */
export function storage(cause: unknown): Fault {
  return Object.assign(new Fault('storage', undefined, { retryAfterS: RETRY_AFTER_S }), { cause })
}

/** Codes that speak of the statement and not of the disk: bugs of ours, and constraints that did their work. */
const STATEMENT = new Set(['SQLITE_ERROR', 'SQLITE_CONSTRAINT', 'SQLITE_MISMATCH', 'SQLITE_RANGE', 'SQLITE_MISUSE', 'SQLITE_TOOBIG', 'SQLITE_AUTH'])

/** An error of the statement itself as it is, and whatever else went wrong by its name. */
export const faultOf = (error: Error): Error => (kindOf(error) === 'statement' ? error : storage(error))

function kindOf(error: unknown): 'statement' | 'locked' | 'trouble' {
  if (!(error instanceof LibsqlError)) return 'statement'
  if (error.code === 'SQLITE_BUSY' || error.code === 'SQLITE_LOCKED' || /statements in progress/i.test(error.message)) return 'locked'
  return STATEMENT.has(error.code) ? 'statement' : 'trouble'
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}

/** False when the time came first. */
async function before(until: number, work: Promise<void>): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<false>((resolve) => {
    timer = setTimeout(() => resolve(false), Math.max(0, until - performance.now()))
  })
  try {
    return await Promise.race([work.then(() => true), late])
  } finally {
    clearTimeout(timer)
  }
}
