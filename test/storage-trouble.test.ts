import { join } from 'node:path'
import { sql } from 'drizzle-orm'
import { afterEach, describe, expect, it } from 'vitest'
import { findRun } from '../router/store/runs.ts'
import type { Fleet } from './kit/fleet.ts'
import { follow } from './kit/follow.ts'
import { startNodeFleet, type OpenNodeHost } from './kit/host-node.ts'
import { lockWrites } from './kit/lock.ts'
import { held, RawRunner } from './kit/raw-runner.ts'
import { noSmallDisk, smallDisk, type SmallDisk } from './kit/small-disk.ts'
import { idsOf, readSse, SSE } from './kit/sse.ts'
import { resultAt, type Turn } from './kit/turns.ts'
import { until } from './kit/wait.ts'

/** What issue and operations promise: so long after the fault is gone everything works again. */
const RECOVERY_MS = 5_000

let fleet: Fleet<OpenNodeHost> | undefined
let disk: SmallDisk | undefined
afterEach(async () => {
  disk?.free()
  await fleet?.close()
  disk?.unmount()
  fleet = disk = undefined
})

/** A CLI that prints a line of so many bytes every few milliseconds until the test has seen enough. */
function printer(bytes: number) {
  const lines: string[] = []
  const enough = new AbortController()
  const turn: Turn = async (sink, offer) => {
    if (offer.spec.prompt !== 'print') return { result: resultAt(sink.line(Buffer.from('{"short":true}'))) }
    let seq = 0
    while (!enough.signal.aborted) {
      const line = JSON.stringify({ n: lines.length, pad: 'x'.repeat(bytes) })
      lines.push(line)
      seq = sink.line(Buffer.from(line))
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
    return { result: resultAt(seq) }
  }
  return { turn, lines, stop: () => enough.abort() }
}

const ready = async (f: Fleet) => (await f.call('/readyz', { token: null })).status
const submit = (f: Fleet) => f.run({ prompt: 'short' }, { prefer: 'respond-async' })

/** Everything the CLI printed, once and in order, then `done`. */
async function expectWhole(stream: ReturnType<typeof follow>, lines: readonly string[]) {
  const events = await stream
  expect(idsOf(events)).toEqual(Array.from({ length: lines.length + 2 }, (_, i) => i + 1))
  expect(events.slice(1, -1).map((e) => e.data)).toEqual(lines)
  expect(JSON.parse(events.at(-1)!.data)).toMatchObject({ status: 'succeeded' })
}

async function startRun(f: Fleet): Promise<string> {
  const response = await f.run({ prompt: 'print' }, { prefer: 'respond-async' })
  expect(response.status).toBe(202)
  const { id } = (await response.json()) as { id: string }
  return id
}

/** Faulty answers are the fault `storage`; after the fault the next submission and readiness are back in time. */
async function expectFault(f: Fleet) {
  const since = performance.now()
  const refused = await submit(f)
  expect(refused.status).toBe(503)
  expect(await refused.json()).toMatchObject({ code: 'storage', retryable: true })
  expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0)
  expect(performance.now() - since).toBeLessThan(4_000)
  await until('readiness to be gone', async () => (await ready(f)) === 503)
}

async function expectRecovery(f: Fleet, lines: readonly string[]): Promise<number> {
  const since = performance.now()
  const printed = lines.length
  const { id } = await until(
    'a submission to be taken',
    async () => {
      const response = await submit(f)
      return response.status === 202 && ((await response.json()) as { id: string })
    },
    RECOVERY_MS,
  )
  await until('it to end', async () => ((await (await f.call(`/v1/runs/${id}`)).json()) as { status: string }).status === 'succeeded', RECOVERY_MS)
  await until('readiness to be back', async () => (await ready(f)) === 200, RECOVERY_MS)
  await until('the run to print on', () => lines.length > printed)
  return performance.now() - since
}

describe('a database that refuses what one run told', () => {
  it('loses that run, and neither the others of its runner nor those of anybody else notice', async () => {
    const cli = printer(100)
    const f = (fleet = await startNodeFleet())
    const forged: Turn = (sink, offer, stopped) => {
      if (offer.spec.prompt !== 'forged') return cli.turn(sink, offer, stopped)
      return Promise.resolve({ result: { ...resultAt(sink.line(Buffer.from('{"forged":true}'))), num_turns: 13 } })
    }
    await f.runner({ turn: forged })
    await f.host.router.deps.store.db.run(sql`
      CREATE TRIGGER refuses BEFORE UPDATE ON runs WHEN NEW.num_turns = 13 BEGIN SELECT RAISE(ABORT, 'integer overflow'); END`)
    const stream = follow(f, await startRun(f))
    await until('the run to print', () => cli.lines.length > 20)
    const { id } = await f.start({ prompt: 'forged' })
    expect(await f.until(id, 'lost')).toMatchObject({ error: { code: 'lost' } })
    const printed = cli.lines.length
    await until('the other run to print on', () => cli.lines.length > printed + 20)
    const next = await f.start({ prompt: 'short' })
    await f.until(next.id, 'succeeded')
    expect((await f.runners()).map(({ status }) => status)).toEqual(['online'])
    cli.stop()
    await expectWhole(stream, cli.lines)
  })
})

describe('a database that keeps the end of a run and reports its commit as failed', () => {
  it('holds up neither the next turn of the session nor the slot', async () => {
    const f = (fleet = await startNodeFleet())
    const runner = await RawRunner.enlist(f)
    const link = await runner.connect()
    const [first, offer] = await Promise.all([f.start({ prompt: 'first' }), link.begin()])
    await link.acked(offer, 1)
    const next = await f.start({ prompt: 'next', session_id: first.session_id })
    const { store } = f.host.router.deps
    const batch = store.batch.bind(store)
    store.batch = async (statements) => {
      const results = await batch(statements)
      if ((await findRun(store.db, 'default', first.id))?.state !== 'succeeded') return results
      store.batch = batch
      throw new Error('SQLITE_IOERR: disk I/O error')
    }
    link.exit(offer, 2)
    await link.closed
    const again = await runner.connect({ runs: [held(offer, 'exited', 2)] })
    expect(await again.next('offer')).toMatchObject({ run: next.id, spec: { prompt: 'next' } })
    expect(await f.get(first.id)).toMatchObject({ status: 'succeeded' })
    await again.cut()
  })
})

describe('a database that somebody else has locked', () => {
  it('for a second: nobody notices but by waiting', async () => {
    const cli = printer(100)
    const f = (fleet = await startNodeFleet())
    await f.runner({ turn: cli.turn })
    const stream = follow(f, await startRun(f))
    await until('the run to print', () => cli.lines.length > 20)
    const release = await lockWrites(join(f.host.dataDir, 'runyard.db'))
    const waiting = submit(f)
    await new Promise((resolve) => setTimeout(resolve, 1_000))
    await release()
    expect((await waiting).status).toBe(202)
    cli.stop()
    await expectWhole(stream, cli.lines)
  })

  it('for ten: submissions are refused with a fault, runs lose nothing, and all is well soon after', { timeout: 90_000 }, async () => {
    const cli = printer(100)
    const f = (fleet = await startNodeFleet())
    await f.runner({ turn: cli.turn })
    const id = await startRun(f)
    const stream = follow(f, id)
    await until('the run to print', () => cli.lines.length > 20)
    const release = await lockWrites(join(f.host.dataDir, 'runyard.db'))
    const since = performance.now()
    while (performance.now() - since < 10_000) await expectFault(f)
    await release()
    const recoveredMs = await expectRecovery(f, cli.lines)
    expect(recoveredMs).toBeLessThan(RECOVERY_MS)
    cli.stop()
    await expectWhole(stream, cli.lines)
  })
})

describe('a database that cannot grow', () => {
  it('takes no event it cannot keep, says so, and goes on when it can', { timeout: 90_000 }, async () => {
    const cli = printer(4_000)
    const f = (fleet = await startNodeFleet())
    await f.runner({ turn: cli.turn })
    const id = await startRun(f)
    const stream = follow(f, id)
    await until('the run to print', () => cli.lines.length > 20)
    const { db } = f.host.router.deps.store
    const [{ page_count: pages } = { page_count: 0 }] = await db.all<{ page_count: number }>(sql`PRAGMA page_count`)
    await db.all(sql.raw(`PRAGMA max_page_count = ${pages + 1}`))
    await until('the log to be full', async () => (await submit(f)).status === 503)
    const printed = cli.lines.length
    await until('the run to print on meanwhile', () => cli.lines.length > printed + 50)
    await db.all(sql.raw('PRAGMA max_page_count = 1000000'))
    expect(await expectRecovery(f, cli.lines)).toBeLessThan(RECOVERY_MS)
    cli.stop()
    await expectWhole(stream, cli.lines)
  })
})

describe.skipIf(noSmallDisk !== '')(`a full disk${noSmallDisk}`, () => {
  it('under the database: no acknowledged event is lost, submissions are refused, and all is well soon after there is room', { timeout: 90_000 }, async () => {
    disk = smallDisk(16)
    const cli = printer(4_000)
    const f = (fleet = await startNodeFleet({ dataDir: join(disk.dir, 'data') }))
    await f.runner({ turn: cli.turn })
    const id = await startRun(f)
    const stream = follow(f, id)
    await until('the run to print', () => cli.lines.length > 20)
    disk.fill(0)
    await until('the disk to be full', async () => (await submit(f)).status === 503, 30_000)
    await expectFault(f)
    const printed = cli.lines.length
    await until('the run to print on meanwhile', () => cli.lines.length > printed + 50)
    disk.free()
    expect(await expectRecovery(f, cli.lines)).toBeLessThan(RECOVERY_MS)
    cli.stop()
    await expectWhole(stream, cli.lines)
  })

  it('under the spool: the run that fills it ends as spool_full with all that was kept, others go on', { timeout: 60_000 }, async () => {
    disk = smallDisk(4)
    const small = printer(10)
    const big: string[] = []
    const f = (fleet = await startNodeFleet())
    await f.runner({
      spoolDir: disk.dir,
      turn: async (sink, offer, stopped) => {
        if (offer.spec.prompt !== 'big') return small.turn(sink, offer, stopped)
        const over = new AbortController()
        void stopped.then(() => over.abort())
        while (!over.signal.aborted) {
          const line = JSON.stringify({ n: big.length, pad: 'y'.repeat(300_000) })
          big.push(line)
          sink.line(Buffer.from(line))
          await new Promise((resolve) => setTimeout(resolve, 5))
        }
        return { code: null, signal: 'SIGKILL' }
      },
    })
    const id = await startRun(f)
    const stream = follow(f, id)
    await until('the run to print', () => small.lines.length > 20)
    const { events } = await readSse(await f.run({ prompt: 'big' }, SSE))
    expect(JSON.parse(events.at(-1)!.data)).toMatchObject({ status: 'failed', error: { code: 'spool_full' } })
    expect(idsOf(events)).toEqual(events.map((_, i) => i + 1))
    const kept = events.filter((e) => e.event === 'message').map((e) => e.data)
    expect(kept).toEqual(big.slice(0, kept.length))
    expect(kept.length).toBeGreaterThan(5)
    expect(events.some((e) => e.event === 'gap')).toBe(true)
    const printed = small.lines.length
    await until('the other run to print on', () => small.lines.length > printed + 20)
    expect((await submit(f)).status).toBe(202)
    small.stop()
    await expectWhole(stream, small.lines)
  })
})
