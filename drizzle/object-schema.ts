/**
 * What one runner's object keeps in its own database: the runs it has or had and their events, as in the shared one, and
 * beside them what it still owes to others.
 */
import { integer, sqliteTable, text } from 'drizzle-orm/sqlite-core'
import type { Greeting } from '../shared/frames.ts'

export { runEvents, runs } from './schema.ts'

/** One row: whose object this is, and its connection as far as it has to outlive our memory. */
export const seats = sqliteTable('seats', {
  id: integer('id').primaryKey(),
  runner: text('runner').notNull(),
  tenant: text('tenant').notNull(),
  pool: text('pool').notNull(),
  /** The number of its newest connection. */
  conns: integer('conns').notNull(),
  /** What it said of itself, while its connection lives. */
  hello: text('hello', { mode: 'json' }).$type<Greeting>(),
  draining: integer('draining', { mode: 'boolean' }).notNull(),
  /** An admin wants it to take nothing new. */
  cordoned: integer('cordoned', { mode: 'boolean' }).notNull(),
  /** Since when it has no connection. */
  lostAt: integer('lost_at'),
  /** Whether its pool has heard of all this. */
  told: integer('told', { mode: 'boolean' }).notNull(),
})

/** Runs that were offered to this runner, from before their row says so until their lease is here or they wait elsewhere. */
export const offers = sqliteTable('offers', {
  run: text('run').primaryKey(),
  fence: integer('fence').notNull(),
  at: integer('at').notNull(),
})

/** Runs whose rows in the shared database are behind. */
export const unsettled = sqliteTable('unsettled', {
  run: text('run').primaryKey(),
  /** Raised with every change, so that what changes while it is being told stays to be told. */
  version: integer('version').notNull(),
})
