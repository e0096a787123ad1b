import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { HandCli } from '../test/kit/cli.ts'
import { TestClock } from '../test/kit/clock.ts'
import { resultAt } from '../test/kit/turns.ts'
import { LEASE_MS, RUN_WINDOW, SPOOL_HARD_BYTES, SPOOL_SOFT_BYTES } from '../shared/limits.ts'
import type { Mark } from '../shared/marks.ts'
import { HeldRun } from './held-run.ts'
import { Spool } from './spool.ts'

const session = '0190a8c4-7c1e-7000-8000-000000000001'
const TIMEOUT_MS = 60_000

let dir = ''
let count = 0
let spool: Spool
let clock: TestClock
let cli: HandCli
let run: HeldRun
let changes = 0
let ended: Promise<void>
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'runyard-held-'))
})
beforeEach(() => {
  spool?.remove()
  const intent = { run: `run_${'a'.repeat(32)}`, fence: 1, tenant: 'default', session, marker: session }
  spool = Spool.create(join(dir, `${++count}.spool`), intent)
  clock = new TestClock()
  cli = new HandCli()
  changes = 0
  ended = new Promise((resolve) => {
    const changed = (of: HeldRun) => {
      changes++
      if (!of.active) resolve()
    }
    run = new HeldRun({ spool, clock, events: { began: changed, changed, log: () => undefined }, prepared: cli.prepared, timeoutMs: TIMEOUT_MS })
  })
})
afterAll(() => rmSync(dir, { recursive: true, force: true }))

const line = (text: string) => Buffer.from(text)
/** The end of what one read of the CLI's output brings. */
const readOver = () => Promise.resolve()
const markAt = (seq: number): Mark | undefined => {
  const read = spool.read(seq, 1)
  return read?.kind === 'mark' ? read.mark : undefined
}
/** Waits for the exit, and gives it. */
async function exited(): Promise<Mark | undefined> {
  await ended
  return markAt(spool.last)
}

describe('a run on its machine', () => {
  it('does nothing until its first lease', () => {
    clock.advance(10_000)
    expect(cli.turns).toBe(0)
    expect(run.held).toMatchObject({ state: 'accepted', last: 0 })
    expect(spool.hasStarted).toBe(false)
  })

  it('is not started when its lease is over by the time that the start is on disk', async () => {
    const starting = spool.starting.bind(spool)
    spool.starting = async () => {
      await starting()
      clock.advance(LEASE_MS)
    }
    run.leased(0, LEASE_MS)
    expect(await exited()).toMatchObject({ kind: 'exit', reason: 'runner_stopped' })
    expect([cli.turns, cli.cancels]).toEqual([0, ['kill']])
  })

  it('has its start on disk before the prompt is written, and says so as event 1', async () => {
    run.leased(0, LEASE_MS)
    await cli.started
    expect(spool.hasStarted).toBe(true)
    expect(markAt(1)).toEqual({
      kind: 'started',
      session_id: session,
      provider: 'local',
      cli_version: cli.cliVersion,
      cwd: '/work',
      warm: false,
    })
    expect(run.held).toMatchObject({ state: 'running', last: 1 })
  })

  it('starts once, however many leases there are', async () => {
    run.leased(0, LEASE_MS)
    run.leased(0, LEASE_MS)
    await cli.started
    run.leased(0, LEASE_MS)
    expect(cli.turns).toBe(1)
    cli.exit()
    await exited()
    run.leased(0, LEASE_MS)
    expect(cli.turns).toBe(1)
  })

  it('numbers what the CLI prints, and ends with the exit behind all of it', async () => {
    run.leased(0, LEASE_MS)
    const sink = await cli.started
    expect(sink.line(line('{"a":1}'))).toBe(2)
    sink.mark({ kind: 'stderr', text: 'oh', truncated: false })
    expect(sink.line(line('{"b":2}'))).toBe(4)
    clock.advance(1_234)
    cli.exit({ result: resultAt(4) })
    expect(await exited()).toEqual({ kind: 'exit', code: 0, signal: null, reason: 'completed', result: resultAt(4), duration_ms: 1_234 })
    expect(run.held).toMatchObject({ state: 'exited', last: 5 })
    expect(run.active).toBe(false)
    expect(clock.timers).toBe(0)
    // The start, what came together up to the mark, and the exit.
    expect(changes).toBe(3)
  })

  it('ends with what the gateway counted, with a result or without', async () => {
    run.leased(0, LEASE_MS)
    await cli.started
    const tokens = { input_tokens: 1, output_tokens: 2, cache_creation_input_tokens: 0, cache_read_input_tokens: 0 }
    const metered = { requests: 3, tokens, cost_usd: 0.5, known_usd: 0.5, provider: 'a', failovers: 1 }
    cli.exit({ signal: 'SIGKILL', metered })
    expect(await exited()).toMatchObject({ reason: 'crashed', metered })
  })

  it('has crashed when the CLI ended without a result', async () => {
    run.leased(0, LEASE_MS)
    await cli.started
    cli.exit({ code: 1 })
    expect(await exited()).toMatchObject({ reason: 'crashed', code: 1 })
  })
})

describe('the end of a run', () => {
  it('is not_started when the go came after half of its life', async () => {
    run.leased(LEASE_MS / 2, LEASE_MS)
    expect(await exited()).toMatchObject({ reason: 'not_started', duration_ms: 0 })
    expect(cli.turns).toBe(0)
    expect(cli.cancels[0]).toBe('kill')
    expect(spool.last).toBe(1)
  })

  it('before the go leaves nothing to be started by it', async () => {
    const ending = run.end('cancelled', 'interrupt')
    run.leased(0, LEASE_MS)
    await ending
    run.leased(0, LEASE_MS)
    expect(cli.turns).toBe(0)
    expect(markAt(1)).toMatchObject({ kind: 'exit', reason: 'cancelled' })
    expect(spool.last).toBe(1)
  })

  it('while the start is being written comes before the prompt', async () => {
    run.leased(0, LEASE_MS)
    await run.end('cancelled', 'interrupt')
    expect(cli.turns).toBe(0)
    expect(markAt(1)).toMatchObject({ kind: 'exit', reason: 'cancelled' })
  })

  it('has the first reason that was given, whatever the CLI said last', async () => {
    cli.onCancel = { code: 0, result: resultAt(2) }
    run.leased(0, LEASE_MS)
    await cli.started
    await Promise.all([run.end('timeout', 'interrupt', 'too long'), run.end('cancelled', 'kill')])
    expect(cli.cancels).toEqual(['interrupt', 'kill'])
    expect(markAt(2)).toMatchObject({ reason: 'timeout', message: 'too long', result: resultAt(2) })
    expect(spool.last).toBe(2)
  })

  it('comes at its timeout, counted from the start of the CLI', async () => {
    clock.advance(5_000)
    run.leased(0, LEASE_MS)
    await cli.started
    clock.advance(TIMEOUT_MS - 1)
    expect(cli.cancels).toEqual([])
    clock.advance(1)
    expect(cli.cancels).toEqual(['interrupt'])
    expect(await exited()).toMatchObject({ reason: 'timeout', duration_ms: TIMEOUT_MS })
  })

  it('is written once, and asking again changes nothing', async () => {
    run.leased(0, LEASE_MS)
    await cli.started
    cli.exit({ result: resultAt(1) })
    await exited()
    await run.end('cancelled', 'kill')
    expect(spool.last).toBe(2)
    expect(cli.cancels).not.toContain('kill')
  })
})

describe('the age of a lease', () => {
  it('counts from the sending of what it answers', async () => {
    run.leased(1_000, LEASE_MS)
    await cli.started
    clock.advance(5_000)
    expect(run.sinceLeaseMs).toBe(6_000)
    run.leased(10, LEASE_MS)
    expect(run.sinceLeaseMs).toBe(10)
    cli.exit()
    await exited()
  })
})

describe('a spool that fills up', () => {
  it('pauses the CLI until the router has caught up', async () => {
    run.leased(0, LEASE_MS)
    const sink = await cli.started
    const big = Buffer.alloc(16 * 1024 * 1024, 0x61)
    while (spool.bytesAfter(0) <= SPOOL_SOFT_BYTES) {
      expect(cli.paused).toBe(false)
      sink.line(big)
      await readOver()
    }
    expect(cli.paused).toBe(true)
    run.acked(3, 0, RUN_WINDOW)
    expect(cli.paused).toBe(false)
    cli.exit()
    await exited()
  })

  it('ends the run at the hard limit, and says that what came after it is missing', async () => {
    run.leased(0, LEASE_MS)
    const sink = await cli.started
    const big = Buffer.alloc(16 * 1024 * 1024, 0x61)
    while (spool.bytesAfter(0) <= SPOOL_HARD_BYTES) {
      sink.line(big)
      await readOver()
    }
    const kept = spool.last
    expect(cli.cancels).toEqual(['kill'])
    expect(sink.line(line('{"late":1}'))).toBe(kept)
    expect(await exited()).toMatchObject({ kind: 'exit', reason: 'spool_full' })
    expect(markAt(kept + 1)).toEqual({ kind: 'gap', reason: 'spool_lost', from: kept + 1, to: null })
    expect(spool.last).toBe(kept + 2)
  })
})

describe('a disk that is full', () => {
  it('ends the run when what was read together does not fit, and its ending says so', async () => {
    run.leased(0, LEASE_MS)
    const sink = await cli.started
    const flush = spool.flush.bind(spool)
    spool.flush = () => {
      spool.flush = flush
      throw Object.assign(new Error('no space left on device'), { code: 'ENOSPC' })
    }
    sink.line(line('{}'))
    expect(await exited()).toMatchObject({ kind: 'exit', reason: 'spool_full' })
    expect(cli.cancels).toEqual(['kill'])
    expect(markAt(spool.last - 1)).toMatchObject({ kind: 'gap', reason: 'spool_lost', to: null })
  })
})

describe('a run whose log is full', () => {
  const capped = () => {
    const changed = () => undefined
    return new HeldRun({ spool, clock, events: { began: changed, changed, log: () => undefined }, prepared: { ...cli.prepared, maxLogBytes: 1_048_576 }, timeoutMs: TIMEOUT_MS })
  }

  it('keeps what fits and the result, says how much is missing, and ends as it would have', async () => {
    const one = capped()
    one.leased(0, LEASE_MS)
    const sink = await cli.started
    const some = Buffer.alloc(100_000, 0x61)
    const seqs = Array.from({ length: 50 }, () => sink.line(some))
    expect(seqs.slice(0, 11)).toEqual([2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 11])
    sink.mark({ kind: 'raw', encoding: 'utf8', data: 'lost too' })
    const resultSeq = sink.line(line('{"type":"result"}'), true)
    expect(resultSeq).toBe(12)
    // What is small comes after what was too large, and would be out of its place.
    expect(sink.line(line('{}'))).toBe(12)
    sink.mark({ kind: 'stderr', text: 'last words', truncated: false })
    cli.exit({ result: resultAt(resultSeq) })
    while (one.active) await new Promise((resolve) => setImmediate(resolve))
    expect(cli.cancels).toEqual([])
    expect(markAt(13)).toMatchObject({ kind: 'stderr' })
    expect(markAt(14)).toEqual({ kind: 'gap', reason: 'log_cap', bytes: 40 * 100_000 + 64 + 'lost too'.length + 2 })
    expect(markAt(15)).toMatchObject({ kind: 'exit', reason: 'completed', result: { seq: 12 } })
    expect(spool.last).toBe(15)
  })

  it('is full in the middle of what comes together as it would be line by line', async () => {
    const one = capped()
    one.leased(0, LEASE_MS)
    const sink = await cli.started
    const some = `${'a'.repeat(99_999)}\n`
    sink.batch(line(some.repeat(5)), 5)
    sink.batch(line(some.repeat(40)), 40)
    sink.batch(line('b\n'), 1)
    cli.exit()
    while (one.active) await new Promise((resolve) => setImmediate(resolve))
    expect(markAt(12)).toEqual({ kind: 'gap', reason: 'log_cap', bytes: 35 * 99_999 + 1 })
    expect(markAt(13)).toMatchObject({ kind: 'exit' })
  })

  it('says nothing of it when everything fits', async () => {
    const one = capped()
    one.leased(0, LEASE_MS)
    const sink = await cli.started
    sink.line(Buffer.alloc(1_048_576, 0x61))
    cli.exit()
    while (one.active) await new Promise((resolve) => setImmediate(resolve))
    expect(markAt(3)).toMatchObject({ kind: 'exit' })
  })
})

describe('a run that is let go', () => {
  it('leaves its spool for the next process, or nothing at all', async () => {
    run.leased(0, LEASE_MS)
    await cli.started
    cli.exit()
    await exited()
    await run.release(false)
    expect(cli.disposed).toBe(1)
    const again = Spool.open(spool.path)!
    expect(again.hasExit).toBe(true)
    const taken = new HeldRun({ spool: again, clock, events: { began: () => undefined, changed: () => undefined, log: () => undefined } })
    expect(taken.held).toMatchObject({ state: 'exited', last: 2 })
    await taken.release(true)
    expect(existsSync(spool.path)).toBe(false)
  })

  it('that is let go of while its exit waits for room writes nothing into the files of others', async () => {
    const goOn = spool.sync.bind(spool)
    run.leased(0, LEASE_MS)
    await cli.started
    let tries = 0
    spool.sync = () => (tries++ === 0 ? Promise.reject(new Error('no space left on device')) : goOn())
    spool.mark = () => {
      throw Object.assign(new Error('no space left on device'), { code: 'ENOSPC' })
    }
    cli.exit({ result: resultAt(1) })
    await new Promise((resolve) => setImmediate(resolve))
    await run.release(true)
    // The number of the file is given to the next one that is opened.
    const next = Spool.create(join(dir, `${++count}.spool`), { run: `run_${'b'.repeat(32)}`, fence: 1, tenant: 'other', session, marker: session })
    delete (spool as Partial<Spool>).mark
    clock.advance(5_000)
    await ended
    expect([next.last, next.hasExit]).toEqual([0, false])
    expect(() => spool.line(line('{}'))).toThrow('the spool is closed')
    next.remove()
  })
})
