/**
 * What happened and is to be told: written in the batch that makes it so, so that a crash loses none and tells none twice.
 * Who is told, and how, is router/webhooks' business; where nobody wants to hear of anything, nothing is written.
 */
import { sql, type SQL } from 'drizzle-orm'
import { notices, runs, sessions, webhooks } from '../../drizzle/schema.ts'
import type { WebhookEvent } from '../../shared/webhooks.ts'
import type { Append } from '../core/runner-core.ts'
import type { Db, RunState, Statement } from '../ports.ts'
import { settleEnding } from './allowances.ts'
import { compiled, type Given, type Values } from './prepared.ts'

const listens = (tenant: unknown) => sql`EXISTS (SELECT 1 FROM ${webhooks} WHERE tenant = ${tenant} AND enabled = 1 AND url IS NOT NULL)`

type Told = { run: string; event: WebhookEvent; now: number }

/** `alive` is the condition of the statements of the batch behind it on the run's row. */
export function runNotice<More extends Values>(alive: (given: Given<More>) => SQL): (values: Told & More) => SQL {
  return compiled<Told & More>(
    (given) => sql`
      INSERT INTO ${notices} (id, tenant, event, run, session, at)
      SELECT ${given('event')} || '/' || its.id, its.tenant, ${given('event')}, its.id, its.session, ${given('now')} FROM ${runs} AS its
      WHERE its.id = ${given('run')} AND ${alive(given)} AND (its.webhook IS NOT NULL OR ${listens(sql`its.tenant`)})
      ON CONFLICT (id) DO NOTHING`,
  )
}

/**
 * In front of the deletion of a session, or behind its making; `which` is the condition of the statements around it on `its` row.
 * `now`: or what stands for it.
 */
export const sessionNotice = (which: SQL, event: 'session.created' | 'session.deleted', now: unknown): SQL => sql`
  INSERT INTO ${notices} (id, tenant, event, session, at)
  SELECT ${`${event}/`} || its.id, its.tenant, ${event}, its.id, ${now} FROM ${sessions} AS its
  WHERE ${which} AND ${listens(sql`its.tenant`)}
  ON CONFLICT (id) DO NOTHING`

/** Undefined while it lives. */
export function endingEvent(state: RunState): WebhookEvent | undefined {
  return state === 'succeeded' || state === 'failed' || state === 'cancelled' || state === 'lost' ? `run.${state}` : undefined
}

const ended = runNotice<{ fence: number }>((given) => sql`fence = ${given('fence')} AND ended_at IS NULL`)

/** What belongs in front of an append that ends its run, where its row and the ledger are in one database. */
export function endingStatements(db: Db, append: Append, now: number): Statement[] {
  const event = append.ending && endingEvent(append.ending.state)
  if (!event) return []
  return [...settleEnding(db, append, now), db.run(ended({ run: append.run, event, fence: append.fence, now })) as Statement]
}
