/**
 * The durable side of the router: rows and logs that outlive its process, with the conditions of the SQL statements, and
 * operations that a schedule can hold back, fail, or lose the answer of. Each commit is held against what was printed.
 */
import type { LogRow } from '../../router/core/intake.ts'
import { isTerminal, type RunState } from '../../router/core/run-state.ts'
import type { Append } from '../../router/core/runner-core.ts'
import type { EventChunk } from '../../router/ports.ts'
import type { Outcome } from '../../router/hub/event-log.ts'
import type { Mark } from '../../shared/marks.ts'

export type Row = {
  readonly id: string
  fence: number
  state: RunState
  runner: string | null
  cancelRequestedAt: number | null
  /** A cancel that came while the CLI was alive: the run must not end as anything but cancelled or lost. */
  mustCancel: boolean
  rows: LogRow[]
  events: EventChunk[]
  lines: number
  gap: boolean
  exit: Extract<Mark, { kind: 'exit' }> | undefined
}

export type Evidence = {
  violate: (invariant: string, what: string) => void
  /** Lines of a run in the order the runner read them. */
  printed: (run: string) => readonly Uint8Array[]
  aliveOf: (run: string) => number
  /** Whether there was a cause to give the run up. */
  lostWithCause: (row: Row) => boolean
}

type Op = {
  router: object
  write: boolean
  perform: () => unknown
  resolve: (value: unknown) => void
  reject: (error: Error) => void
}

const NEWLINE = 0x0a
const decoder = new TextDecoder()

export class Ledger {
  readonly rows = new Map<string, Row>()
  readonly #evidence: Evidence
  #pending: Op[] = []
  /** Operations wait for `complete`: all of them, or the pages of subscribers. */
  held = false
  slowPages = false
  /** Writes fail; with `ambiguous` they are kept all the same. */
  failing: 'no' | 'clean' | 'ambiguous' = 'no'
  /** A write was kept whose answer was lost: nobody can say what became of it but the ledger. */
  unanswered = false
  /** The router whose process is alive; what others asked for is answered to nobody. */
  alive: object | undefined

  constructor(evidence: Evidence) {
    this.#evidence = evidence
  }

  add(id: string): Row {
    const waiting = { fence: 0, state: 'queued', runner: null, cancelRequestedAt: null, mustCancel: false } as const
    const row: Row = { id, ...waiting, rows: [], events: [], lines: 0, gap: false, exit: undefined }
    this.rows.set(id, row)
    return row
  }

  get pending(): number {
    return this.#pending.length
  }

  write<T>(router: object, perform: () => T): Promise<T> {
    return this.#op(router, true, perform)
  }

  /** The answer is of now, however late it comes. */
  read<T>(router: object, perform: () => T): Promise<T> {
    const answer = perform()
    return this.#op(router, false, () => answer)
  }

  page<T>(router: object, perform: () => T): Promise<T> {
    const answer = perform()
    return this.#op(router, false, () => answer, this.slowPages)
  }

  complete(n: number): void {
    for (const op of this.#pending.splice(0, n)) this.#perform(op)
  }

  /** The process that asked is gone; the first `kept` of its writes had got through. */
  forsake(kept: number): void {
    for (const op of this.#pending.splice(0).filter((o) => o.write).slice(0, kept)) op.perform()
  }

  /** All or nothing, as one batch. */
  commit(appends: readonly Append[]): Outcome[] {
    for (const { run, fence, rows, loss } of appends) {
      const row = this.rows.get(run)
      if (!row || !this.#takes(row, fence) || loss) continue
      const doubled = rows.some((next) => row.rows.some((r) => r.first === next.first && r.part === next.part))
      if (doubled) throw new Error('UNIQUE constraint failed: run_events')
    }
    return appends.map((append) => this.apply(append))
  }

  apply(append: Append): Outcome {
    const row = this.rows.get(append.run)
    if (!row || !this.#takes(row, append.fence)) return 'fenced_out'
    if (append.loss) this.#dropParts(row)
    for (const next of append.rows) this.#insert(row, next)
    if (append.running) row.state = 'running'
    if (append.ending) {
      row.state = append.ending.state
      if (append.loss) row.fence++
      this.#checkEnding(row)
    }
    return 'durable'
  }

  end(row: Row): { seq: number; part: number; parts: number } {
    const last = row.rows.at(-1)
    if (!last) return { seq: 0, part: 0, parts: 0 }
    if (last.part + 1 < last.parts) return { seq: last.first - 1, part: last.part + 1, parts: last.parts }
    return { seq: last.first + last.count - 1, part: 0, parts: 0 }
  }

  chunks(row: Row, after: number, maxBytes: number): EventChunk[] {
    const page: EventChunk[] = []
    let size = 0
    for (const event of row.events.slice(after)) {
      if (page.length > 0 && size + event.bytes.length > maxBytes) break
      size += event.bytes.length
      page.push(event)
    }
    return page
  }

  /** Reads whose answer is on its way. */
  answering = 0

  #op<T>(router: object, write: boolean, perform: () => T, held = false): Promise<T> {
    return new Promise((resolve, reject) => {
      const op: Op = { router, write, perform, resolve: resolve as (value: unknown) => void, reject }
      if (this.held || held) this.#pending.push(op)
      else if (write) queueMicrotask(() => this.#perform(op))
      else {
        // A page takes longer than a commit that is under way, so that one may come between the two.
        this.answering++
        setImmediate(() => {
          this.answering--
          this.#perform(op)
        })
      }
    })
  }

  #perform({ router, write, perform, resolve, reject }: Op): void {
    if (router !== this.alive) return
    if (write && this.failing === 'clean') return reject(new Error('disk I/O error'))
    try {
      const value = perform()
      if (!write || this.failing !== 'ambiguous') return resolve(value)
      this.unanswered = true
      reject(new Error('connection lost before the answer'))
    } catch (error) {
      reject(error as Error)
    }
  }

  #takes(row: Row, fence: number): boolean {
    return row.fence === fence && !isTerminal(row.state)
  }

  #dropParts(row: Row): void {
    while (row.rows.at(-1)?.kind === 'part' && row.rows.at(-1)!.first > row.events.length) row.rows.pop()
  }

  #insert(row: Row, next: LogRow): void {
    const { violate } = this.#evidence
    if (row.exit) violate('I5', `${row.id}: an event after the exit`)
    const end = this.end(row)
    const fits = next.first === end.seq + 1 && next.part === end.part
    if (!fits) violate('I3', `${row.id}: ${next.first}.${next.part} follows ${end.seq}.${end.part}`)
    row.rows.push(next)
    if (next.kind === 'mark') return this.#mark(row, next)
    if (next.kind === 'ev') {
      let at = 0
      for (let n = 0; n < next.count; n++) {
        const lineEnd = next.bytes.indexOf(NEWLINE, at)
        this.#line(row, next.bytes.subarray(at, lineEnd + 1))
        at = lineEnd + 1
      }
      return
    }
    if (next.part + 1 < next.parts) return
    const parts = row.rows.filter((r) => r.kind === 'part' && r.first === next.first).map((r) => r.bytes)
    this.#line(row, Buffer.concat([...parts, Buffer.from('\n')]))
  }

  #line(row: Row, bytes: Uint8Array): void {
    const { violate, printed } = this.#evidence
    row.events.push({ kind: 'ev', first: row.events.length + 1, count: 1, bytes })
    const expected = printed(row.id)[row.lines++]
    if (!expected) return violate('I4', `${row.id}: line ${row.lines} was never printed`)
    const same = Buffer.compare(expected, bytes.subarray(0, -1)) === 0
    if (!same) violate('I1', `${row.id}: line ${row.lines} is not what was printed`)
  }

  #mark(row: Row, next: LogRow): void {
    const { violate } = this.#evidence
    row.events.push({ kind: 'mark', first: row.events.length + 1, count: 1, bytes: next.bytes })
    const mark = JSON.parse(decoder.decode(next.bytes)) as Mark
    if (mark.kind === 'started' && row.events.length !== 1) violate('I3', `${row.id}: started is event ${row.events.length}`)
    if (mark.kind === 'gap') {
      row.gap = true
      if (mark.from !== row.events.length) violate('I1', `${row.id}: the gap at ${row.events.length} says ${mark.from}`)
    }
    if (mark.kind === 'exit') row.exit = mark
  }

  #checkEnding(row: Row): void {
    const { violate, printed, aliveOf, lostWithCause } = this.#evidence
    if (!row.exit) violate('I5', `${row.id}: it ended without an exit`)
    const lines = printed(row.id).length
    if (row.lines < lines && !row.gap) violate('I1', `${row.id}: ${row.lines} of ${lines} lines, and no gap`)
    if (row.state === 'lost') {
      if (!lostWithCause(row)) violate('I9', `${row.id}: given up without a cause: ${row.exit?.message}`)
    } else {
      if (aliveOf(row.id) > 0) violate('I11', `${row.id}: ${row.state}, and its CLI is alive`)
      if (row.mustCancel && row.state !== 'cancelled') violate('I5', `${row.id}: cancelled, but it ended as ${row.state}`)
    }
  }
}
