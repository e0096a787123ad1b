/**
 * Queries that read many rows, beside the event loop: libSQL works in the thread that asks it, so a sum over all runs
 * would hold up every stream of every tenant. They go to a thread with a connection of its own, one after the other, the
 * tenants in turn. It is started by the first of them, and anew when it has died.
 *
 * The database is in WAL mode: what was committed before a query was asked is seen by it, and it holds no writer up. A
 * query cannot be interrupted from here; whoever has waited too long hears of it, and the thread goes on once it is done.
 */
import { LibsqlError } from '@libsql/client'
import { Worker } from 'node:worker_threads'
import { Fault } from '../../shared/faults.ts'
import { faultOf, storage } from './connection.ts'

/** Of one tenant at a time; the same query asked twice is one for as long as it waits. */
const MOST_OF_ONE = 16
const MOST = 64
const PATIENCE_MS = 30_000
const RETRY_AFTER_S = 2
/** A query that takes longer goes down with its thread. */
const CLOSE_MS = 5_000

type Row = Record<string, unknown>
type Answer = { readonly rows: Row[] } | { readonly error: { readonly message: string; readonly code: string } }

interface Query {
  readonly sql: string
  readonly args: readonly unknown[]
}

interface Job {
  readonly query: Query
  /** The same for the same query. */
  readonly key: string
  readonly rows: Promise<Row[]>
  readonly settle: (rows: Row[] | Error) => void
}

const THREAD = new URL('reader-thread.mjs', import.meta.url)

export class Reader {
  readonly #path: string
  readonly #thread: URL
  #worker: Worker | undefined
  #running: Job | undefined
  /** By tenant, whose turn it is next in front. */
  readonly #waiting = new Map<string, Job[]>()
  #closed = false

  constructor(path: string, thread: URL = THREAD) {
    this.#path = path
    this.#thread = thread
  }

  /** Rows as objects. Throws `busy` when too much waits already or it took too long, and `storage`; an error of the statement stays what it is. */
  read(query: Query, tenant: string): Promise<Row[]> {
    if (this.#closed) return Promise.reject(storage(new Error('the database is closed')))
    const line = this.#waiting.get(tenant) ?? []
    const key = JSON.stringify([query.sql, query.args])
    const same = line.find((job) => job.key === key)
    if (same) return same.rows
    if (line.length >= MOST_OF_ONE || this.#count() >= MOST) return Promise.reject(busy('too many statistics are being read'))
    const job = jobOf(query, key)
    this.#waiting.set(tenant, [...line, job])
    this.#next()
    return job.rows
  }

  /** Who waits hears `storage`. Resolves when the file is free. */
  async close(): Promise<void> {
    this.#closed = true
    for (const job of [...this.#waiting.values()].flat()) job.settle(storage(new Error('the database is closed')))
    this.#waiting.clear()
    const worker = this.#worker
    if (!worker) return
    const gone = new Promise((resolve) => worker.once('exit', resolve))
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread is no window
    worker.postMessage(undefined)
    const timer = setTimeout(() => void worker.terminate(), CLOSE_MS)
    await gone
    clearTimeout(timer)
  }

  #count(): number {
    return [...this.#waiting.values()].reduce((sum, line) => sum + line.length, 0)
  }

  #next(): void {
    if (this.#running) return
    const job = this.#take()
    if (!job) return
    this.#running = job
    this.#worker ??= this.#start()
    this.#worker.ref()
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread is no window
    this.#worker.postMessage(job.query)
  }

  #take(): Job | undefined {
    for (const [tenant, [job, ...rest]] of this.#waiting) {
      this.#waiting.delete(tenant)
      // Behind all others.
      if (rest.length > 0) this.#waiting.set(tenant, rest)
      if (job) return job
    }
    return undefined
  }

  #start(): Worker {
    const worker = new Worker(this.#thread, { workerData: { path: this.#path }, execArgv: [], name: 'reader' })
    let why: unknown = new Error('the reader has ended')
    worker.on('message', (answer: Answer) => this.#over('rows' in answer ? answer.rows : faultOf(new LibsqlError(answer.error.message, answer.error.code))))
    worker.on('error', (error) => (why = error))
    worker.on('exit', () => {
      if (this.#worker === worker) this.#worker = undefined
      this.#over(storage(why))
    })
    return worker
  }

  #over(rows: Row[] | Error): void {
    this.#running?.settle(rows)
    this.#running = undefined
    // Idle, it keeps no process alive.
    this.#worker?.unref()
    this.#next()
  }
}

function jobOf(query: Query, key: string): Job {
  let settle: Job['settle'] = () => undefined
  const rows = new Promise<Row[]>((resolve, reject) => {
    const timer = setTimeout(() => reject(busy('the statistics took too long')), PATIENCE_MS)
    settle = (answer) => {
      clearTimeout(timer)
      if (Array.isArray(answer)) resolve(answer)
      else reject(answer)
    }
  })
  return { query, key, rows, settle: (answer) => settle(answer) }
}

const busy = (message: string) => new Fault('busy', message, { retryAfterS: RETRY_AFTER_S })
