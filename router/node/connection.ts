/**
 * The one connection to the embedded database, and the one place where its trouble gets a name: what the database could
 * not do for a reason outside the statement is the fault `storage`; an error of the statement itself stays what it is.
 *
 * A lock that somebody else holds is waited for, for a while, without blocking the event loop. Nothing is retried that
 * may have happened: a refused lock means that the statement, or the whole batch, was rolled back.
 */
import { createClient, LibsqlError, type Client, type InArgs, type InStatement, type ResultSet } from '@libsql/client'
import { Fault } from '../../shared/faults.ts'

/** A wait inside SQLite blocks every stream of the process, so there is none: waiting is done here. */
const LOCK_TIMEOUT_MS = 0
/** How long a statement waits for somebody else's lock before its caller hears of it. */
export const PATIENCE_MS = 2_000
const PROBE_MS = 25
const RETRY_AFTER_S = 2

/** The part of a libSQL client that drizzle uses outside interactive transactions. */
export type Executor = Pick<Client, 'execute' | 'batch'>

export class Connection implements Executor {
  readonly #client: Client
  /** While somebody else holds the write lock: resolves when it is free or cannot be asked for. */
  #locked: Promise<void> | undefined
  #closed = false

  /** One connection: PRAGMAs belong to it, and two would wait for each other's write lock. */
  constructor(path: string) {
    this.#client = createClient({ url: `file:${path}`, concurrency: 1, timeout: LOCK_TIMEOUT_MS })
  }

  /** For PRAGMAs and the like, before anything else runs. */
  async configure(): Promise<void> {
    await this.#try(true, () => this.#client.executeMultiple('PRAGMA journal_mode = WAL'))
    await this.#setUp()
  }

  execute(statement: InStatement | string, args?: InArgs): Promise<ResultSet> {
    const text = typeof statement === 'string' ? statement : statement.sql
    return this.#try(!/^\s*select\b/i.test(text), () => (typeof statement === 'string' ? this.#client.execute(statement, args) : this.#client.execute(statement)))
  }

  batch(...[statements, mode]: Parameters<Client['batch']>): Promise<ResultSet[]> {
    return this.#try(true, () => this.#client.batch(statements, mode))
  }

  /**
   * A fresh connection in place of one that met a lock. libsql does not reset the statement that was refused, so the old
   * one keeps its snapshot: it refuses every later write (SQLITE_BUSY_SNAPSHOT) and reads what is out of date.
   */
  async renew(): Promise<void> {
    this.#client.reconnect()
    // Without a turn in between: whatever is asked next is asked of the new connection, after its PRAGMA.
    await this.#setUp()
  }

  close(): void {
    this.#closed = true
    this.#client.close()
  }

  async #setUp(): Promise<void> {
    // The event log promises that what was acknowledged survives a power cut.
    await this.#client.executeMultiple('PRAGMA synchronous = FULL')
  }

  async #try<T>(writes: boolean, work: () => Promise<T>): Promise<T> {
    const until = performance.now() + PATIENCE_MS
    for (;;) {
      // In WAL mode readers pass a writer.
      if (writes && this.#locked && !(await before(until, this.#locked))) throw storage(new Error('the database is locked'))
      try {
        return await work()
      } catch (error) {
        const what = this.#closed ? 'trouble' : kindOf(error)
        if (what === 'statement') throw error
        if (what === 'trouble') throw storage(error)
        if (performance.now() >= until) throw storage(error)
        // Renewing takes the connection from those who had just been given it; none of them had begun.
        if (what === 'replaced') continue
        this.#locked ??= this.#waitOut()
        if (!writes) await pause(PROBE_MS)
      }
    }
  }

  /**
   * Asks for the lock in a way that leaves no statement behind when it is refused: `exec` of both in one string. Renewing
   * instead would leak two file descriptors each time, until the next garbage collection.
   */
  async #waitOut(): Promise<void> {
    await this.renew().catch(() => undefined)
    for (;;) {
      try {
        await this.#client.executeMultiple('BEGIN IMMEDIATE; ROLLBACK')
        break
      } catch (error) {
        if (this.#closed || kindOf(error) === 'trouble') break
        // A reader has met a lock on the new connection too.
        if (!(error instanceof LibsqlError) || error.extendedCode !== 'SQLITE_BUSY') await this.renew().catch(() => undefined)
        await pause(PROBE_MS)
      }
    }
    this.#locked = undefined
  }
}

/** What the database could not do for a reason outside the statement. */
export function storage(cause: unknown): Fault {
  return Object.assign(new Fault('storage', undefined, { retryAfterS: RETRY_AFTER_S }), { cause })
}

/** Codes that speak of the statement and not of the disk: bugs of ours, and constraints that did their work. */
const STATEMENT = new Set(['SQLITE_ERROR', 'SQLITE_CONSTRAINT', 'SQLITE_MISMATCH', 'SQLITE_RANGE', 'SQLITE_MISUSE', 'SQLITE_TOOBIG', 'SQLITE_AUTH'])

/** An error of the statement itself as it is, and whatever else went wrong by its name. */
export const faultOf = (error: Error): Error => (kindOf(error) === 'statement' ? error : storage(error))

function kindOf(error: unknown): 'statement' | 'locked' | 'replaced' | 'trouble' {
  if (!(error instanceof LibsqlError)) return 'statement'
  if (error.code === 'SQLITE_BUSY' || error.code === 'SQLITE_LOCKED' || /statements in progress/i.test(error.message)) return 'locked'
  if (error.code === 'CLIENT_CLOSED') return 'replaced'
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
