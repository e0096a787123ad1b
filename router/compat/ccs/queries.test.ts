/** What ccs asks of the rows, against a real file. */
import { sql } from 'drizzle-orm'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { runs, sessions } from '../../../drizzle/schema.ts'
import { openLog, type LogRig } from '../../../test/kit/log.ts'
import type { Store } from '../../ports.ts'
import { sumsOf, totalsOf } from '../../store/session-pages.ts'
import { countTasks, listTasks, readProjects, sumProjects } from './queries.ts'

const SESSION = '00000000-0000-4000-8000-000000000000'
let rig: LogRig
let store: Store
beforeEach(async () => {
  rig = await openLog()
  store = rig.database
  // Added one after the other as they are, these are 0.6000000000000001.
  for (const costUsd of [0.1, 0.2, 0.3]) {
    const id = await rig.run()
    await store.db.update(runs).set({ session: SESSION, state: 'succeeded', task: true, startedAt: 1, endedAt: 2, costUsd }).where(sql`id = ${id}`)
  }
  await store.db.insert(sessions).values({ id: SESSION, tenant: 'default', runner: 'rnr_1', cwd: '/work', createdAt: 1, updatedAt: 1, lastRunAt: 1 })
})
afterEach(() => rig.close())

describe('what tasks, projects and sessions cost', () => {
  it('is the exact sum of their runs', async () => {
    expect(await countTasks(store, 'default')).toEqual([{ state: 'succeeded', count: 3, usd: 0.6 }])
    const work = { sessions: 1, messages: 6, usd: 0.6, last: 1 }
    expect(await sumProjects(store, 'default')).toEqual({ projects: 1, ...work })
    expect(await readProjects(store, 'default', { by: 'total_cost', ascending: false, limit: 9 })).toEqual([{ path: '/work', ...work }])
    expect((await totalsOf(store.db, 'default', [SESSION])).get(SESSION)).toMatchObject({ runs: 3, costUsd: 0.6 })
    expect(await sumsOf(store.db, 'default', SESSION)).toMatchObject({ runs: 3, costUsd: 0.6 })
    expect(await countTasks(store, 'other')).toEqual([])
  })
})

describe('tasks', () => {
  it('are counted from their index, without a look at any run', async () => {
    const explained: Store = { ...store, heavy: (query) => store.db.all(sql`EXPLAIN QUERY PLAN ${query}`) }
    expect(JSON.stringify(await countTasks(explained, 'default'))).toContain('USING COVERING INDEX runs_tasks (tenant=?)')
  })

  it('are listed by priority and age, those that live among all', async () => {
    const [low, high] = [await rig.run(), await rig.run()]
    const other = await rig.run()
    await store.db.update(runs).set({ task: true }).where(sql`id IN (${low}, ${high})`)
    await store.db.update(runs).set({ priority: 9 }).where(sql`id = ${high}`)
    const ids = async (...states: ('leased' | 'running' | 'succeeded')[]) => (await listTasks(store.db, 'default', states.length > 0 ? states : undefined, 4)).map(({ id }) => id)
    expect(await ids('leased', 'running')).toEqual([high, low])
    expect(await ids('succeeded')).toHaveLength(3)
    expect((await ids())[0]).toBe(high)
    expect(await ids()).not.toContain(other)
    expect(await listTasks(store.db, 'other', ['leased'], 9)).toEqual([])
  })
})
