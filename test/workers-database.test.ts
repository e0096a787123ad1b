/** The shared database of Workers, behind a network: it goes away, stalls, and does what was asked without saying so. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { openDoor, type Door } from './kit/door.ts'
import { startFleet, type Fleet } from './kit/fleet.ts'
import { workersHost, type OpenWorkersHost } from './kit/host-workers.ts'
import { held, RawRunner } from './kit/raw-runner.ts'
import { idsOf, readSse, SSE } from './kit/sse.ts'
import { startSqld, type Sqld } from './kit/sqld.ts'
import { gate, resultAt, type Turn } from './kit/turns.ts'
import { until } from './kit/wait.ts'

describe('a shared database behind a network', () => {
  let dir: string
  let sqld: Sqld
  let door: Door
  let fleet: Fleet<OpenWorkersHost>
  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), 'runyard-sqld-'))
    sqld = await startSqld(join(dir, 'db'))
    door = await openDoor(sqld.url)
    fleet = await startFleet(workersHost, { vars: { LIBSQL_URL: door.url } })
  })
  afterEach(async () => {
    await fleet.close()
    await door.close()
    await sqld.stop()
    await rm(dir, { recursive: true, force: true })
  })

  /** A slot that is taken, and a run that waits for it. */
  async function oneWaits() {
    const cli = gate()
    await fleet.runner({ turn: cli.turn, slots: 1 })
    await fleet.start({ prompt: 'first' })
    await cli.running('first')
    return { cli, second: await fleet.start({ prompt: 'second' }) }
  }

  it(
    'that goes away leaves the streams as they are, and is told what happened when it is back',
    { timeout: 60_000 },
    async () => {
      const cli = gate()
      await fleet.runner({ turn: cli.turn })
      const response = await fleet.run({ prompt: 'x' }, SSE)
      const reading = readSse(response)
      await cli.running('x')
      door.shut()
      const refused = await fleet.call('/v1/runs')
      expect([refused.status, await refused.json()]).toMatchObject([503, { code: 'storage', retryable: true }])
      await cli.finish('x')
      expect(idsOf((await reading).events)).toEqual([1, 2, 3])
      door.open()
      const [row] = await until(
        'the index to know it',
        async () => {
          const rows = await fleet.list('?status=succeeded').catch(() => [])
          return rows.length > 0 && rows
        },
        30_000,
      )
      expect(row).toMatchObject({ id: response.headers.get('x-run-id'), cost_usd: 0.5 })
    },
  )

  it('that stalls for a while keeps nobody waiting for ever', { timeout: 90_000 }, async () => {
    const cli = gate()
    await fleet.runner({ turn: cli.turn })
    const { id } = await fleet.start({ prompt: 'x' })
    await cli.running('x')
    door.stall()
    const refused = fleet.call('/v1/runs')
    await cli.finish('x')
    expect((await refused).status).toBe(503)
    door.open()
    await until('the index to know it', async () => (await fleet.list('?status=succeeded')).some((run) => run.id === id), 40_000)
  })

  it.each([
    ['taking a run out of the line', /offered/],
    ['its lease', /started_at/],
  ])('that loses its answer to %s starts the run all the same, once', { timeout: 60_000 }, async (_what, statement) => {
    const { cli, second } = await oneWaits()
    door.loseNext(statement)
    await cli.finish('first')
    await cli.finish('second')
    await fleet.until(second.id, 'succeeded', 30_000)
    expect(door.lost).toBe(1)
    expect(cli.order).toEqual(['first', 'second'])
  })

  it('that loses its answer to the return of a run that never started has it offered again', { timeout: 60_000 }, async () => {
    const runner = await RawRunner.enlist(fleet)
    const link = await runner.connect()
    const [{ id }, offer] = await Promise.all([fleet.start({ prompt: 'x' }), link.accept()])
    const never = { code: null, reason: 'not_started', result: undefined, duration_ms: 0 } as const
    door.loseNext(/leased.*queued/)
    link.exit(offer, 1, never)
    await link.closed
    expect(door.lost).toBe(1)
    const again = await runner.connect({ runs: [held(offer, 'exited', 1)] })
    again.exit(offer, 1, never)
    expect(await again.begin()).toMatchObject({ run: id, fence: 2 })
    await again.cut()
  })

  it('that loses an answer now and then leaves no run behind, and starts none twice', { timeout: 120_000 }, async () => {
    const starts = new Map<string, number>()
    const turn: Turn = async (sink, { run }) => {
      starts.set(run, (starts.get(run) ?? 0) + 1)
      const seq = sink.line(Buffer.from('{"n":1}'))
      await new Promise((resolve) => setTimeout(resolve, 100))
      return { result: resultAt(seq) }
    }
    await fleet.runner({ turn, slots: 3 })
    await fleet.runner({ turn, slots: 2 })
    door.lose(0.05)
    const end = performance.now() + 6_000
    const clients = Array.from({ length: 6 }, async () => {
      while (performance.now() < end)
        await fleet.run({ prompt: 'x', queue_timeout_s: 20 }).then(
          (response) => response.text(),
          () => undefined,
        )
    })
    await until('the time to be over', () => performance.now() >= end)
    door.lose(0)
    await Promise.all(clients)
    await until(
      'all to end',
      async () => (await fleet.list('?status=queued')).length + (await fleet.list('?status=running')).length === 0,
      60_000,
    )
    expect(door.lost).toBeGreaterThan(5)
    expect(starts.size).toBeGreaterThan(20)
    expect([...starts.values()].filter((times) => times > 1)).toEqual([])
  })
})
