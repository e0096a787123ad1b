/** Long reads of a real file, in their thread. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { sql, type SQL } from 'drizzle-orm'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { openLog, type LogRig } from '../../test/kit/log.ts'
import { proveCommit } from './database.ts'
import { Reader } from './reader.ts'

let rig: LogRig
beforeEach(async () => {
  rig = await openLog()
})
afterEach(() => rig.close())

const heavy = <T = { n: number }>(query: SQL, tenant: string | undefined = 'default') => rig.database.heavy<T>(query, tenant)
/** Counts as far as that; a hundred thousand take some hundredths of a second. */
const counting = (to: number) => sql`WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < ${to}) SELECT max(n) AS "n" FROM c`
const LONG = 1_000_000

describe('a long read', () => {
  it('lets everything else go on meanwhile', async () => {
    const order: string[] = []
    const long = heavy(counting(LONG)).then(() => order.push('long'))
    await proveCommit(rig.database, 1)
    for (const _ of [1, 2, 3]) {
      await new Promise((resolve) => setImmediate(resolve))
      expect(await rig.database.db.all(sql`SELECT at FROM probes`)).toEqual([{ at: 1 }])
      order.push('short')
    }
    await long
    expect(order).toEqual(['short', 'short', 'short', 'long'])
  })

  it('sees what was committed before, whenever that was', async () => {
    for (let at = 1; at <= 20; at++) {
      await proveCommit(rig.database, at)
      expect(await heavy(sql`SELECT at AS "n", NULL AS "no", 0.5 AS "half" FROM probes`)).toEqual([{ n: at, no: null, half: 0.5 }])
    }
  })

  it('writes nothing', async () => {
    await proveCommit(rig.database, 1)
    await expect(heavy(sql`UPDATE probes SET at = 2`)).rejects.toMatchObject({ code: 'storage' })
    expect(await heavy(sql`SELECT at AS "n" FROM probes`)).toEqual([{ n: 1 }])
  })

  it('that is wrong says so, and the next one is answered', async () => {
    await expect(heavy(sql`SELECT * FROM nowhere`)).rejects.toMatchObject({ code: 'SQLITE_ERROR' })
    expect(await heavy(sql`SELECT 1 AS "n"`)).toEqual([{ n: 1 }])
  })
})

describe('many of them', () => {
  it('are read for the tenants in turn, and twice the same is once', async () => {
    const order: string[] = []
    const ask = (tenant: string | undefined, n: number) => heavy(sql`SELECT ${n} AS "n"`, tenant).then(([row]) => order.push(`${tenant ?? 'operator'} ${row?.n}`))
    const first = heavy(counting(LONG), 'a')
    await Promise.all([first, ...[1, 2, 3].map((n) => ask('a', n)), ask('a', 2), ask('b', 1), ask(undefined, 1)])
    expect(order).toEqual(['a 1', 'b 1', 'operator 1', 'a 2', 'a 2', 'a 3'])
  })

  it('of one tenant are too many at some point, which is none of the business of another', async () => {
    const asked = Array.from({ length: 20 }, (_, i) => heavy(counting(i === 0 ? LONG : i), 'a'))
    const outcomes = Promise.allSettled(asked)
    expect(await heavy(sql`SELECT 1 AS "n"`, 'b')).toEqual([{ n: 1 }])
    const refused = (await outcomes).flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.reason as unknown] : []))
    // One is being read, sixteen wait.
    expect(refused).toHaveLength(3)
    for (const reason of refused) expect(reason).toMatchObject({ code: 'busy', retryAfterS: 2 })
  })

  it('that took the thread with them leave the next ones unharmed', async () => {
    const file = join(rig.dir, 'thread.mjs')
    await writeFile(file, `import { parentPort } from 'node:worker_threads'
      parentPort.on('message', (query) => (query?.sql === 'answer' ? parentPort.postMessage({ rows: [{ n: 1 }] }) : process.exit(1)))`)
    const reader = new Reader(rig.path, pathToFileURL(file))
    const asked = ['answer', 'die', 'answer'].map((text, n) => reader.read({ sql: text, args: [n] }, 'a'))
    const outcomes = await Promise.allSettled(asked)
    expect(outcomes).toMatchObject([{ value: [{ n: 1 }] }, { reason: { code: 'storage' } }, { value: [{ n: 1 }] }])
    await reader.close()
  })

  it('end with the database: who waits hears of it', async () => {
    const asked = [1, 2].map((n) => heavy(counting(LONG + n)))
    const outcomes = Promise.allSettled(asked)
    await rig.database.close()
    expect((await outcomes).map(({ status }) => status)).toEqual(['fulfilled', 'rejected'])
    await expect(asked[1]).rejects.toMatchObject({ code: 'storage' })
    await expect(heavy(sql`SELECT 1`)).rejects.toMatchObject({ code: 'storage' })
  })
})
