/** What objects do for themselves after a kill, or without the shared database: nobody asks them to. */
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { startFleet, type Fleet } from './kit/fleet.ts'
import { follow } from './kit/follow.ts'
import { workersHost, type OpenWorkersHost, type WorkersOptions } from './kit/host-workers.ts'
import { RawRunner } from './kit/raw-runner.ts'
import { idsOf, readSse, SSE } from './kit/sse.ts'
import { startSqld } from './kit/sqld.ts'
import { gate } from './kit/turns.ts'
import { until } from './kit/wait.ts'

describe('objects that were killed', () => {
  let fleet: Fleet<OpenWorkersHost>
  afterEach(() => fleet.close())
  const open = async (options: WorkersOptions = {}) => (fleet = await startFleet(workersHost, options))

  it('give back an offer that nobody remembers, and the run is offered again under the next fence', { timeout: 60_000 }, async () => {
    await open()
    const runner = await RawRunner.enlist(fleet)
    const first = await runner.connect()
    const posted = fleet.run({ prompt: 'x', queue_timeout_s: 60 }).catch(() => 'cut' as const)
    const { run } = await first.next('offer')
    await fleet.host.restart()
    expect(await posted).toBe('cut')
    const second = await runner.connect()
    const again = await second.begin()
    expect(again).toMatchObject({ run, fence: 2 })
    second.exit(again, 2)
    await fleet.until(run, 'succeeded')
    await second.cut()
  })

  it('end what waits by their alarm, although nobody asks for anything', { timeout: 60_000 }, async () => {
    await open()
    const { id } = await fleet.start({ prompt: 'x', queue_timeout_s: 2 })
    await fleet.host.restart()
    // The list is read from the database alone: it wakes no object.
    const [run] = await until('it to end', async () => {
      const rows = await fleet.list('?status=failed')
      return rows.length > 0 && rows
    }, 40_000)
    expect(run).toMatchObject({ id, error: { code: 'queue_timeout' } })
  })

  it('break in the middle of what they do without losing or doubling anything', { timeout: 60_000 }, async () => {
    await open()
    const lines = Array.from({ length: 300 }, (_, i) => `{"n":${i}}`)
    await fleet.runner({
      slots: 4,
      turn: async (sink) => {
        for (const line of lines) {
          sink.line(Buffer.from(line))
          await new Promise((resolve) => setTimeout(resolve, 5))
        }
      },
    })
    const runs = await Promise.all(['a', 'b', 'c', 'd'].map((prompt) => fleet.start({ prompt })))
    const following = runs.map(({ id }) => follow(fleet, id))
    for (let i = 0; i < 3; i++) {
      await new Promise((resolve) => setTimeout(resolve, 400))
      await fleet.host.abortObjects!()
    }
    for (const events of await Promise.all(following)) {
      expect(idsOf(events)).toEqual(Array.from({ length: lines.length + 2 }, (_, i) => i + 1))
      expect(events.slice(1, -1).map((e) => e.data)).toEqual(lines)
    }
  })
})

describe('the object of a busy runner', () => {
  it('hears a request among the messages of 64 runs', { timeout: 60_000 }, async () => {
    const fleet = await startFleet(workersHost, {})
    try {
      await fleet.runner({
        slots: 64,
        turn: async (sink, _offer, stopped) => {
          const told = stopped.then(() => true)
          for (let n = 0; ; n++) {
            sink.line(Buffer.from(`{"n":${n}}`))
            if (await Promise.race([told, new Promise<false>((resolve) => setTimeout(() => resolve(false), 50))])) return
          }
        },
      })
      const runs = await Promise.all(Array.from({ length: 64 }, (_, i) => fleet.start({ prompt: `${i}` })))
      const watched = runs.map(({ id }) => follow(fleet, id))
      await new Promise((resolve) => setTimeout(resolve, 4_000))
      const asked = performance.now()
      const answers = await Promise.all(runs.map(({ id }) => fleet.call(`/v1/runs/${id}/cancel`, { method: 'POST' })))
      expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([202]))
      expect(performance.now() - asked).toBeLessThan(10_000)
      for (const events of await Promise.all(watched)) expect(idsOf(events)).toEqual(events.map((_, i) => i + 1))
      for (const { id } of runs) await fleet.until(id, 'cancelled')
    } finally {
      await fleet.close()
    }
  })
})

describe('a run whose shared database goes away', () => {
  it('streams on, ends, and is settled when the database is back', { timeout: 60_000 }, async () => {
    const dir = await mkdtemp(join(tmpdir(), 'runyard-sqld-'))
    const sqld = await startSqld(join(dir, 'db'))
    const door = await openDoor(Number(new URL(sqld.url).port))
    const fleet = await startFleet(workersHost, { vars: { LIBSQL_URL: `http://127.0.0.1:${door.port}` } })
    try {
      const cli = gate()
      await fleet.runner({ turn: cli.turn })
      const response = await fleet.run({ prompt: 'x' }, SSE)
      const reading = readSse(response)
      await cli.running('x')
      door.shut()
      const refused = await fleet.call('/v1/runs')
      expect([refused.status, await refused.json()]).toMatchObject([503, { code: 'storage', retryable: true }])
      await cli.finish('x')
      const { events } = await reading
      expect(idsOf(events)).toEqual([1, 2, 3])
      door.open()
      const id = response.headers.get('x-run-id')!
      const [row] = await until('the index to know it', async () => {
        const rows = await fleet.list('?status=succeeded').catch(() => [])
        return rows.length > 0 && rows
      }, 30_000)
      expect(row).toMatchObject({ id, status: 'succeeded', cost_usd: 0.5 })
    } finally {
      await fleet.close()
      await door.close()
      await sqld.stop()
      await rm(dir, { recursive: true, force: true })
    }
  })
})

/** A way to a port that can be shut. */
async function openDoor(to: number) {
  const through = new Set<Socket>()
  let isOpen = true
  const server = createServer((inner) => {
    if (!isOpen) return void inner.destroy()
    const outer = connect(to, '127.0.0.1')
    for (const [socket, other] of [[inner, outer], [outer, inner]] as const) {
      through.add(socket)
      socket.on('error', () => undefined)
      socket.on('close', () => (through.delete(socket), other.destroy()))
      socket.pipe(other)
    }
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const cut = () => through.forEach((socket) => socket.destroy())
  return {
    port: (server.address() as AddressInfo).port,
    open: () => void (isOpen = true),
    shut() {
      isOpen = false
      cut()
    },
    close: () => new Promise<void>((resolve) => (cut(), server.close(() => resolve()))),
  }
}
