/** How long sessions are kept that nobody uses, as it was set for the whole router, and the end of those whose time is over. */
import { z } from 'zod'
import { asc, lt, sql } from 'drizzle-orm'
import { sessions } from '../../drizzle/schema.ts'
import type { Db, Statement, Store } from '../ports.ts'
import { deleteSessions } from './sessions.ts'
import { readSetting, settingStatement } from './settings.ts'

export const RetentionSettings = z.strictObject({
  session_days: z.int().min(0).max(36_500).default(30).describe('Sessions whose last run began longer ago are deleted; 0: never.'),
})
export type RetentionSettings = z.infer<typeof RetentionSettings>

const NAME = 'retention'
const DAY_MS = 86_400_000
/** Sessions of one batch, and batches of one call: streams beside it wait no longer than one of them. */
const PIECE = 50
const PIECES = 40

/** The defaults where nothing was set, or by a router that knew more than this one. */
export async function readRetention(db: Db): Promise<RetentionSettings> {
  const read = RetentionSettings.safeParse((await readSetting(db, NAME)) ?? {})
  return read.success ? read.data : RetentionSettings.parse({})
}

/** For the batch of the change. */
export function retentionStatement(db: Db, value: RetentionSettings, now: number): Statement {
  return settingStatement(db, NAME, value, now)
}

/** Deletes what has had its time, the oldest first, but nothing that a run of is alive. What is left is for the next call. */
export async function pruneSessions(store: Store, now: number): Promise<number> {
  const { session_days: days } = await readRetention(store.db)
  if (days === 0) return 0
  const before = now - days * DAY_MS
  let gone = 0
  for (let piece = 0; piece < PIECES; piece++) {
    const old = await store.db
      .select({ id: sessions.id })
      .from(sessions)
      .where(lt(sessions.lastRunAt, before))
      .orderBy(asc(sessions.lastRunAt))
      .limit(PIECE)
    if (old.length === 0) break
    const these = JSON.stringify(old.map(({ id }) => id))
    const deleted = await deleteSessions(store, sql`its.last_run_at < ${before} AND its.id IN (SELECT value FROM json_each(${these}))`, now)
    gone += deleted
    // Those that are left have a run that has waited for as long, and are not asked for again before the next call.
    if (deleted < old.length) break
  }
  return gone
}
