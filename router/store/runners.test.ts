import { afterAll, beforeAll, expect, it } from 'vitest'
import { tenants, type runners } from '../../drizzle/schema.ts'
import { openLog, type LogRig } from '../../test/kit/log.ts'
import { insertRunner, markedRunners, REVOKED_MS, standingOf } from './runners.ts'

const NOW = 1_700_000_000_000

let log: LogRig
beforeAll(async () => {
  log = await openLog()
})
afterAll(() => log.close())

async function enrol(id: string, marks: Partial<typeof runners.$inferInsert> = {}): Promise<void> {
  await insertRunner(log.database.db, { id, tenant: 't', pool: 'p', name: id, labels: {}, signingJwk: {}, sealingJwk: {}, createdAt: 1, ...marks })
}

it('admins want something of the drained and of those that may still be connected after they were revoked', async () => {
  const { db } = log.database
  for (const [id, disabledAt] of [['now', NOW], ['long', NOW - REVOKED_MS - 1]] as const) {
    await db.insert(tenants).values({ id: `off-${id}`, name: id, settings: {}, disabledAt, createdAt: 1 })
    await enrol(`disabled-${id}`, { tenant: `off-${id}` })
  }
  await enrol('free')
  await enrol('drained', { drainedAt: 1 })
  await enrol('revoked', { revokedAt: NOW - REVOKED_MS })
  await enrol('revoked-long', { revokedAt: NOW - REVOKED_MS - 1 })
  await enrol('drained-and-revoked-long', { drainedAt: 1, revokedAt: NOW - REVOKED_MS - 1 })
  const marks = await markedRunners(db, NOW)
  expect(new Map(marks.map((mark) => [mark.id, mark]))).toEqual(
    new Map(
      [
        { id: 'disabled-now', drainedAt: null, revokedAt: NOW },
        { id: 'drained', drainedAt: 1, revokedAt: null },
        { id: 'revoked', drainedAt: null, revokedAt: NOW - REVOKED_MS },
      ].map((mark) => [mark.id, mark]),
    ),
  )
  // Whoever comes back is looked at by himself, however long ago it was.
  expect(await standingOf(db, 'revoked-long')).toMatchObject({ revokedAt: NOW - REVOKED_MS - 1 })
})
