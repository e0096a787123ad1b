/**
 * What is no longer kept: the events of runs that ended long ago, and secrets and keys that have had their use. The row of a
 * run stays; a live run is never touched.
 *
 * Each call is one small statement or batch, so that a host may do other work in between; which runs, and when, is its
 * decision.
 */
import { and, asc, eq, gt, isNotNull, isNull, lt, or, sql } from 'drizzle-orm'
import { enrolments, runEvents, runs, tokens } from '../../drizzle/schema.ts'
import type { Db } from '../ports.ts'
import { pruneAssertions } from './enrolments.ts'
import { pruneClaims } from './idempotency.ts'

export type KeptRun = { readonly id: string; readonly endedAt: number; readonly eventBytes: number }

const kept = and(isNotNull(runs.endedAt), isNull(runs.prunedAt))

/** Size of the events of all runs that have ended. */
export async function keptBytes(db: Db): Promise<number> {
  const [row] = await db.select({ sum: sql<number>`coalesce(sum(${runs.eventBytes}), 0)` }).from(runs).where(kept)
  return row?.sum ?? 0
}

/** Runs whose events are kept, the one that ended first in front. `after`: where the last page ended. */
export async function oldestKept(db: Db, after: KeptRun | undefined, limit: number): Promise<KeptRun[]> {
  const rows = await db
    .select({ id: runs.id, endedAt: sql<number>`${runs.endedAt}`, eventBytes: sql<number>`coalesce(${runs.eventBytes}, 0)` })
    .from(runs)
    .where(and(kept, after && or(gt(runs.endedAt, after.endedAt), and(eq(runs.endedAt, after.endedAt), gt(runs.id, after.id)))))
    .orderBy(asc(runs.endedAt), asc(runs.id))
    .limit(limit)
  return rows
}

/** From now on its events are not shown. False: it is live, or was marked before. */
export async function markPruned(db: Db, run: string, now: number): Promise<boolean> {
  const rows = await db
    .update(runs)
    .set({ prunedAt: now })
    .where(and(eq(runs.id, run), kept))
    .returning({ id: runs.id })
  return rows.length === 1
}

/** Takes the mark back, as long as nothing was deleted. */
export async function unmarkPruned(db: Db, run: string): Promise<void> {
  await db.update(runs).set({ prunedAt: null }).where(eq(runs.id, run))
}

/** Marked runs that still have rows, also those of a process that did not get to the end. */
export async function marked(db: Db, limit: number): Promise<string[]> {
  const rows = await db
    .select({ id: runs.id })
    .from(runs)
    .where(and(isNotNull(runs.prunedAt), sql`event_bytes > 0`))
    .limit(limit)
  return rows.map((r) => r.id)
}

/** The same, by the runner that they were with: where events are kept with their runners. */
export async function markedByRunner(db: Db, limit: number): Promise<Map<string, string[]>> {
  const rows = await db
    .select({ id: runs.id, runner: runs.runner })
    .from(runs)
    .where(and(isNotNull(runs.prunedAt), sql`event_bytes > 0`, isNotNull(runs.runner)))
    .limit(limit)
  const byRunner = new Map<string, string[]>()
  for (const { id, runner } of rows) if (runner !== null) byRunner.set(runner, [...(byRunner.get(runner) ?? []), id])
  return byRunner
}

/** Deletes up to about `maxBytes` of a marked run's events, at least one row. True: that was all of them. */
export async function deleteEvents(db: Db, run: string, maxBytes: number): Promise<boolean> {
  const rows = await db
    // The length of a blob is known without reading it.
    .select({ first: runEvents.first, part: runEvents.part, bytes: sql<number>`length(${runEvents.bytes})` })
    .from(runEvents)
    .where(eq(runEvents.run, run))
    .orderBy(asc(runEvents.first), asc(runEvents.part))
    .limit(MAX_ROWS)
  let upTo = rows[0]
  for (let size = 0, i = 0; i < rows.length && (i === 0 || size + rows[i]!.bytes <= maxBytes); i++) {
    upTo = rows[i]
    size += rows[i]!.bytes
  }
  if (upTo) {
    await db.delete(runEvents).where(and(eq(runEvents.run, run), sql`(first, part) <= (${upTo.first}, ${upTo.part})`))
    if (upTo !== rows.at(-1) || rows.length === MAX_ROWS) return false
  }
  await db.update(runs).set({ eventBytes: 0 }).where(and(eq(runs.id, run), isNotNull(runs.prunedAt)))
  return true
}

const MAX_ROWS = 256

/** Where the events of runs are kept elsewhere: those of runs that never reached a runner, and ended before then. */
export async function pruneUnstarted(db: Db, endedBefore: number, now: number): Promise<void> {
  const old = and(kept, isNull(runs.runner), lt(runs.endedAt, endedBefore))
  await db.delete(runEvents).where(sql`${runEvents.run} IN (SELECT id FROM ${runs} WHERE ${old})`)
  await db.update(runs).set({ prunedAt: now, eventBytes: 0 }).where(old)
}

/** An admin may still want to know for a while who had one. */
const EXPIRED_TOKENS_MS = 30 * 86_400_000

/** Idempotency keys, tokens and assertions that can no longer be used. */
export async function pruneSecrets(db: Db, now: number): Promise<void> {
  await pruneClaims(db, now)
  await pruneAssertions(db, now)
  await db.delete(enrolments).where(or(lt(enrolments.expiresAt, now), isNotNull(enrolments.usedAt)))
  await db.delete(tokens).where(lt(tokens.expiresAt, now - EXPIRED_TOKENS_MS))
}
