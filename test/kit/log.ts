/** A database file of its own with rows to write events for. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { eq } from 'drizzle-orm'
import { runEvents, runs } from '../../drizzle/schema.ts'
import type { LogRow, Position } from '../../router/core/intake.ts'
import type { Append } from '../../router/core/runner-core.ts'
import { openDatabase, type Database } from '../../router/node/database.ts'

const encoder = new TextEncoder()

export interface LogRig {
  readonly dir: string
  readonly path: string
  readonly database: Database
  /** A run that is going on under this fence. */
  run(fence?: number): Promise<string>
  row(run: string): Promise<typeof runs.$inferSelect | undefined>
  /** The rows of a run as (seq, part), in no order that is promised. */
  rows(run: string): Promise<[number, number][]>
  close(): Promise<void>
}

export const nextTurn = () => new Promise<void>((resolve) => setImmediate(resolve))

export async function openLog(): Promise<LogRig> {
  const dir = await mkdtemp(join(tmpdir(), 'runyard-log-'))
  const path = join(dir, 'test.db')
  const database = await openDatabase(path)
  let count = 0
  return {
    dir,
    path,
    database,
    async run(fence = 1) {
      const id = `run_${String(++count).padStart(32, '0')}`
      const session = `00000000-0000-4000-8000-${String(count).padStart(12, '0')}`
      await database.db.insert(runs).values({
        id,
        tenant: 'default',
        subject: 'test',
        token: 'jti',
        needs: {},
        session,
        pool: 'default',
        labels: {},
        priority: 5,
        queueUntil: 0,
        timeoutS: 60,
        state: 'leased',
        fence,
        createdAt: 1,
      })
      return id
    },
    async row(run) {
      const [row] = await database.db.select().from(runs).where(eq(runs.id, run))
      return row
    },
    async rows(run) {
      const rows = await database.db.select({ first: runEvents.first, part: runEvents.part }).from(runEvents).where(eq(runEvents.run, run))
      return rows.map(({ first, part }): [number, number] => [first, part]).toSorted((a, b) => a[0] - b[0] || a[1] - b[1])
    },
    async close() {
      await database.close()
      await rm(dir, { recursive: true, force: true })
    },
  }
}

export const lines = (first: number, texts: readonly string[]): LogRow => ({
  first,
  part: 0,
  parts: 1,
  count: texts.length,
  kind: 'ev',
  bytes: encoder.encode(texts.map((text) => `${text}\n`).join('')),
})
export const mark = (first: number, json: object): LogRow => ({ first, part: 0, parts: 1, count: 1, kind: 'mark', bytes: encoder.encode(JSON.stringify(json)) })
export const part = (first: number, at: number, parts: number, text: string): LogRow => ({ first, part: at, parts, count: 1, kind: 'part', bytes: encoder.encode(text) })

/** An append of these rows; where the log stands after them follows from the last one. */
export function appendOf(run: string, rows: readonly LogRow[], more: Partial<Append> = {}): Append {
  const last = rows.at(-1)
  let upTo: Position = { seq: 0, part: 0 }
  if (last) upTo = last.part + 1 < last.parts ? { seq: last.first - 1, part: last.part + 1 } : { seq: last.first + last.count - 1, part: 0 }
  return { run, fence: 1, rows, upTo, ...more }
}
