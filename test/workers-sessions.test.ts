/** What becomes of the events of a deleted session on Workers, where they are in the object of its runner. */
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { createClient } from '@libsql/client'
import { expect, it } from 'vitest'
import { startFleet } from './kit/fleet.ts'
import { workersHost } from './kit/host-workers.ts'
import { echo } from './kit/turns.ts'
import { until } from './kit/wait.ts'

/** Rows of this run in every database of the host, of objects or shared, by table. */
async function rowsOf(dir: string, run: string): Promise<Record<string, number>> {
  const files = (await readdir(dir, { recursive: true })).filter((file) => file.endsWith('.sqlite'))
  const counts: Record<string, number> = {}
  for (const file of files) {
    const db = createClient({ url: `file:${join(dir, file)}` })
    for (const [table, column] of [
      ['run_events', 'run'],
      ['prompts', 'run'],
      ['runs', 'event_bytes > 0 AND id'],
    ]) {
      const found = await db.execute({ sql: `SELECT count(*) AS n FROM ${table} WHERE ${column} = ?`, args: [run] }).catch(() => undefined)
      if (found) counts[table!] = (counts[table!] ?? 0) + Number(found.rows[0]?.['n'])
    }
    db.close()
  }
  return counts
}

it('they are deleted there when the cron trigger has told it, and so says the shared row', { timeout: 60_000 }, async () => {
  const fleet = await startFleet(workersHost, {})
  try {
    await fleet.runner({ turn: echo })
    const ran = async (prompt: string) => (await (await fleet.run({ prompt })).json()) as { id: string; session_id: string }
    const [deleted, kept] = [await ran('a'), await ran('b')]
    const gone = async () => (await fleet.call(`/v1/sessions/${deleted.session_id}`, { method: 'DELETE' })).status
    // The shared row may lag behind the end of its run.
    await until('the session to be deleted', async () => (await gone()) === 204)
    await fleet.host.cron()
    await fleet.host.kill()
    expect(await rowsOf(fleet.host.stateDir, deleted.id)).toEqual({ run_events: 0, prompts: 0, runs: 0 })
    const left = await rowsOf(fleet.host.stateDir, kept.id)
    expect(left).toMatchObject({ prompts: 1, runs: 2 })
    expect(left['run_events']).toBeGreaterThan(0)
  } finally {
    await fleet.close()
  }
})
