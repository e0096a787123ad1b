import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openDatabase } from '../node/database.ts'
import { findBatch, insertBatch, refuseItems, type BatchRow } from './batches.ts'
import { findClaim } from './idempotency.ts'

let dir: string
let store: Awaited<ReturnType<typeof openDatabase>>
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'runyard-batches-'))
  store = await openDatabase(join(dir, 'router.db'))
})
afterAll(async () => {
  await store.close()
  await rm(dir, { recursive: true, force: true })
})
const batch = (id: string): BatchRow => ({ id, tenant: 't', subject: 's', size: 9, refused: [], metadata: { odd: '\ud800\0"' }, createdAt: 1 })

describe('the row of a batch', () => {
  it('is written once for a key, with its claim or not at all', async () => {
    const claim = { key: 'k', hash: 'h' }
    expect(await Promise.all(['bat_1', 'bat_2', 'bat_3'].map((id) => insertBatch(store, batch(id), claim)))).toEqual([true, false, false])
    expect(await findClaim(store.db, 't', 'k', 2)).toMatchObject({ run: 'bat_1', hash: 'h' })
    expect(await findBatch(store.db, 't', 'bat_2')).toBeUndefined()
    expect(await findBatch(store.db, 'other', 'bat_1')).toBeUndefined()
    expect(await findBatch(store.db, 't', 'bat_1')).toEqual(batch('bat_1'))
    expect(await insertBatch(store, { ...batch('bat_4'), tenant: 'other' }, claim)).toBe(true)
  })

  it('keeps the first reason of each place, whatever it says and however many say it at once', async () => {
    await insertBatch(store, batch('bat_9'), undefined)
    const odd = 'it\'s "odd": \\ \u2028 € 😀 \ud83d \0'
    const refused = (index: number, message: string) => [{ index, code: 'cwd', message }]
    await refuseItems(store.db, 'bat_9', [...refused(3, odd), ...refused(0, 'b')])
    await Promise.all([1, 2, 4, 5, 6].map((index) => refuseItems(store.db, 'bat_9', refused(index, 'at once'))))
    await refuseItems(store.db, 'bat_9', [...refused(3, 'again'), ...refused(8, 'new')])
    const row = await findBatch(store.db, 't', 'bat_9')
    expect(row?.refused.map(({ index }) => index).toSorted((a, b) => a - b)).toEqual([0, 1, 2, 3, 4, 5, 6, 8])
    expect(row?.refused.find(({ index }) => index === 3)).toEqual({ index: 3, code: 'cwd', message: odd })
  })
})
