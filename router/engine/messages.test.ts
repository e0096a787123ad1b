import { eq } from 'drizzle-orm'
import * as fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { prompts, runEvents, runs, sessions } from '../../drizzle/schema.ts'
import { openLog, type LogRig } from '../../test/kit/log.ts'
import { storeRecords } from '../store/records.ts'
import { messagesOf, type MessageQuery } from './messages.ts'

let log: LogRig
beforeAll(async () => {
  log = await openLog()
})
afterAll(() => log.close())

const bytes = (text: string) => new TextEncoder().encode(text)
const row = { tenant: 'default', subject: 's', token: 't', pool: 'default', labels: {}, needs: {}, priority: 5, queueUntil: 0, timeoutS: 60, createdAt: 1 }

/** A turn that began at `startedAt`, or one that waits. */
interface Turn {
  readonly startedAt: number | null
  readonly kept: boolean
}

/** A session with these turns, in the order of their submission; the last one is under way if `live`. */
async function conversation(turns: readonly Turn[], live: boolean): Promise<{ session: string; said: string[] }> {
  const { db } = log.database
  const session = crypto.randomUUID()
  await db.insert(sessions).values({ id: session, tenant: 'default', runner: 'rnr_1', createdAt: 1, updatedAt: 1, lastRunAt: 1 })
  const began = turns.flatMap(({ startedAt }, i) => (startedAt === null ? [] : [{ startedAt, i }])).toSorted((a, b) => a.startedAt - b.startedAt || a.i - b.i)
  const running = live ? began.at(-1)?.i : undefined
  const digits = crypto.randomUUID().replaceAll('-', '').slice(0, 24)
  const idOf = (i: number) => `run_${digits}${String(i).padStart(8, '0')}`
  for (const [i, { startedAt, kept }] of turns.entries()) {
    const id = idOf(i)
    const ended = startedAt !== null && i !== running
    await db.insert(runs).values({
      ...row,
      id,
      session,
      state: startedAt === null ? 'queued' : ended ? 'succeeded' : 'running',
      startedAt,
      ...(ended ? { endedAt: startedAt + 1, resultSeq: 1, prunedAt: kept ? null : 9 } : {}),
    })
    if (startedAt === null) continue
    await db.insert(prompts).values({ run: id, session, text: `p${i}` })
    if (ended) await db.insert(runEvents).values({ run: id, first: 1, count: 1, kind: 'ev', bytes: bytes(`{"result":"a${i}"}\n`) })
  }
  return { session, said: began.flatMap(({ i }) => [`p${i}`, ...(i === running ? [] : [turns[i]!.kept ? `a${i}` : 'pruned'])]) }
}

const ask = (session: string, query: MessageQuery, tenant = 'default') =>
  messagesOf({ store: log.database, records: storeRecords(log.database) }, tenant, session, query)

const aTurn = fc.record({ startedAt: fc.option(fc.integer({ min: 1, max: 12 }), { nil: null, freq: 6 }), kept: fc.boolean() })
const anOrder = fc.constantFrom('asc', 'desc')

describe('the messages of a session', () => {
  it('are each on one page and one only, whatever the pages are', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(aTurn, { maxLength: 9 }), fc.boolean(), fc.integer({ min: 1, max: 7 }), anOrder, async (turns, live, limit, order) => {
        const { session, said } = await conversation(turns, live)
        const seen: string[] = []
        for (let cursor: string | undefined, more = true; more;) {
          const { messages, hasMore } = await ask(session, { limit, order, [order === 'asc' ? 'after' : 'before']: cursor })
          expect(hasMore ? messages.length === limit : messages.length <= limit).toBe(true)
          seen.push(...messages.map(({ content, pruned }) => (pruned ? 'pruned' : content!)))
          cursor = messages.at(-1)?.id
          more = hasMore
        }
        expect(seen).toEqual(order === 'asc' ? said : said.toReversed())
      }),
      { numRuns: 60 },
    )
  })

  it('between two of them are those between them', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(aTurn, { minLength: 1, maxLength: 6 }), fc.boolean(), anOrder, fc.nat(20), fc.nat(20), async (turns, live, order, a, b) => {
        const { session } = await conversation(turns, live)
        const all = (await ask(session, { limit: 100, order: 'asc' })).messages.map(({ id }) => id)
        if (all.length === 0) return
        const [from, to] = [a % all.length, b % all.length]
        const { messages, hasMore } = await ask(session, { limit: 100, order, after: all[from], before: all[to] })
        const between = all.slice(from + 1, Math.max(from + 1, to))
        expect(messages.map(({ id }) => id)).toEqual(order === 'asc' ? between : between.toReversed())
        expect(hasMore).toBe(false)
      }),
      { numRuns: 60 },
    )
  })

  it('follow the turns and not their submission: who waited shorter is first', async () => {
    const { session } = await conversation([{ startedAt: 9, kept: true }, { startedAt: 3, kept: true }], false)
    const { messages } = await ask(session, { limit: 10, order: 'asc' })
    expect(messages.map(({ content }) => content)).toEqual(['p1', 'a1', 'p0', 'a0'])
  })

  it('are cut where a page would be too long, and go on behind it', async () => {
    const { db } = log.database
    const { session } = await conversation(Array.from({ length: 12 }, (_, i) => ({ startedAt: i + 1, kept: true })), false)
    await db.update(prompts).set({ text: 'x'.repeat(1024 * 1024) }).where(eq(prompts.session, session))
    const first = await ask(session, { limit: 20, order: 'asc' })
    expect(first.messages).toHaveLength(8)
    expect(first.hasMore).toBe(true)
    const second = await ask(session, { limit: 20, order: 'asc', after: first.messages.at(-1)!.id })
    expect(second.messages[0]?.run).not.toBe(first.messages.at(-1)?.run)
    await db.delete(prompts).where(eq(prompts.session, session))
  })

  it('have no cursor that is not one of them, and are nobody else’s', async () => {
    const { session } = await conversation([{ startedAt: 1, kept: true }, { startedAt: null, kept: true }], false)
    const other = await conversation([{ startedAt: 1, kept: true }], false)
    const [foreign] = (await ask(other.session, { limit: 1, order: 'asc' })).messages
    for (const id of [foreign!.id, 'msg_x', `msg_${'0'.repeat(32)}_u`, `${foreign!.id} `, ''])
      await expect(ask(session, { limit: 1, order: 'asc', after: id }), id).rejects.toMatchObject({ code: 'invalid_request' })
    for (const [id, tenant] of [
      [session, 'other'],
      [crypto.randomUUID(), 'default'],
      ["x' OR '1'='1", 'default'],
    ] as const)
      await expect(ask(id, { limit: 1, order: 'asc' }, tenant)).rejects.toMatchObject({ code: 'session_not_found' })
  })
})
