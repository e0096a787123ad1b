import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { createClient } from '@libsql/client'
import { sql } from 'drizzle-orm'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { migrations } from '../../drizzle/migrations.gen.ts'
import { lockWrites } from '../../test/kit/lock.ts'
import { openLog, type LogRig } from '../../test/kit/log.ts'
import { openDatabase, proveCommit } from './database.ts'

let rig: LogRig
beforeEach(async () => {
  rig = await openLog()
})
afterEach(() => rig.close())

async function pragma(name: string): Promise<unknown> {
  const rows: Record<string, unknown>[] = await rig.database.db.all(sql.raw(`PRAGMA ${name}`))
  return Object.values(rows[0] ?? {})[0]
}

describe('the embedded database', () => {
  it('can be read by its owner only', async () => {
    expect((await stat(rig.path)).mode & 0o777).toBe(0o600)
  })

  it('writes every commit through to the disk, also after it met a lock', async () => {
    expect([await pragma('synchronous'), await pragma('journal_mode')]).toEqual([2, 'wal'])
    const release = await lockWrites(rig.path)
    const met = proveCommit(rig.database, 1)
    expect(await rig.row('nobody')).toBeUndefined()
    await release()
    await met
    expect([await pragma('synchronous'), await pragma('journal_mode')]).toEqual([2, 'wal'])
  })

  it('has pages that chunks of events fit into, and as long a log of its own as with small ones', async () => {
    expect([await pragma('page_size'), await pragma('wal_autocheckpoint')]).toEqual([16_384, 256])
  })

  it('copies as much at a time where a database began with smaller pages', async () => {
    const path = join(rig.dir, 'old.db')
    const client = createClient({ url: `file:${path}` })
    await client.executeMultiple('PRAGMA page_size = 4096; PRAGMA journal_mode = WAL; CREATE TABLE old (a)')
    client.close()
    const old = await openDatabase(path)
    expect(await old.db.all(sql`PRAGMA wal_autocheckpoint`)).toEqual([{ wal_autocheckpoint: 1_024 }])
    await old.close()
  })

  it('applies each migration once', async () => {
    const run = await rig.run()
    const again = await openDatabase(rig.path)
    const rows: unknown[] = await again.db.all(sql`SELECT hash FROM __drizzle_migrations`)
    expect(rows).toHaveLength(migrations.length)
    await again.close()
    expect(await rig.row(run)).toMatchObject({ id: run })
  })

  it('proves that it commits, or throws', async () => {
    await proveCommit(rig.database, 1)
    await proveCommit(rig.database, 2)
    const release = await lockWrites(rig.path)
    await expect(proveCommit(rig.database, 3)).rejects.toMatchObject({ code: 'storage' })
    await release()
    await proveCommit(rig.database, 4)
    expect(await rig.database.db.all(sql`SELECT at FROM probes`)).toEqual([{ at: 4 }])
  })
})
