import { afterAll, beforeAll, expect, it } from 'vitest'
import { openLog, type LogRig } from '../../test/kit/log.ts'
import type { Store } from '../ports.ts'
import { findRunner, insertRunner } from '../store/runners.ts'
import { Touches } from './touches.ts'

let log: LogRig
beforeAll(async () => {
  log = await openLog()
})
afterAll(() => log.close())

it('what came and left within a moment is one commit, and the last word of each counts', async () => {
  const { database } = log
  let commits = 0
  let written: () => void = () => undefined
  const done = new Promise<void>((resolve) => (written = resolve))
  const store: Store = { ...database, batch: (statements) => (commits++, database.batch(statements)) }
  for (const id of ['a', 'b']) await insertRunner(database.db, { id, tenant: 't', pool: 'p', name: id, labels: {}, signingJwk: {}, sealingJwk: {}, createdAt: 1 })
  const touches = new Touches(store, { now: () => 7, background: (work) => void work.then(written) })
  touches.add('a', { slots: 1, cli: null })
  touches.add('b', { slots: 2, cli: null })
  touches.add('a', null)
  await done
  expect(commits).toBe(1)
  expect(await findRunner(database.db, 'a')).toMatchObject({ lastSeenAt: 7, online: null })
  expect(await findRunner(database.db, 'b')).toMatchObject({ lastSeenAt: 7, online: { slots: 2 } })
  await touches.flush()
  expect(commits).toBe(1)
})
