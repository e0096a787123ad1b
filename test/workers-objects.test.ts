/** What objects do for themselves after a kill, and among the messages of a busy runner: nobody asks them to. */
import { afterEach, describe, expect, it } from 'vitest'
import { startFleet, type Fleet } from './kit/fleet.ts'
import { follow } from './kit/follow.ts'
import { workersHost, type OpenWorkersHost, type WorkersOptions } from './kit/host-workers.ts'
import { RawRunner } from './kit/raw-runner.ts'
import { idsOf } from './kit/sse.ts'
import { echo, gate } from './kit/turns.ts'
import { until } from './kit/wait.ts'

describe('objects that were killed', () => {
  let fleet: Fleet<OpenWorkersHost>
  afterEach(() => fleet.close())
  const open = async (options: WorkersOptions = {}) => (fleet = await startFleet(workersHost, options))

  it(
    'give back an offer that nobody remembers, and the run is offered again under the next fence',
    { timeout: 60_000 },
    async () => {
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
    },
  )

  it('end what waits by their alarm, although nobody asks for anything', { timeout: 60_000 }, async () => {
    await open()
    const { id } = await fleet.start({ prompt: 'x', queue_timeout_s: 2 })
    await fleet.host.restart()
    // The list is read from the database alone: it wakes no object.
    const [run] = await until(
      'it to end',
      async () => {
        const rows = await fleet.list('?status=failed')
        return rows.length > 0 && rows
      },
      40_000,
    )
    expect(run).toMatchObject({ id, error: { code: 'queue_timeout' } })
  })

  it('go on with the requests that wait in their line when they are back', { timeout: 60_000 }, async () => {
    await open()
    const cli = gate()
    await fleet.runner({ turn: cli.turn, slots: 1 })
    await fleet.start({ prompt: 'first' })
    await cli.running('first')
    const waiting = fleet.run({ prompt: 'second' })
    await until('it to wait', async () => (await fleet.list('?status=queued')).length === 1)
    await fleet.host.abortObjects!()
    await cli.finish('first')
    await cli.finish('second')
    expect(await (await waiting).json()).toMatchObject({ status: 'succeeded' })
  })

  it('still give to strangers what turns that wait for their session cannot use', { timeout: 60_000 }, async () => {
    await open()
    const cli = gate()
    await fleet.runner({ turn: cli.turn, slots: 3 })
    const { session_id } = await fleet.start({ prompt: 'turn 0' })
    await cli.running('turn 0')
    const turns = []
    for (const n of [1, 2, 3]) turns.push(await fleet.start({ prompt: `turn ${n}`, session_id }))
    for (const [n, kill] of [() => fleet.host.abortObjects!(), () => fleet.restart(), () => fleet.host.abortObjects!()].entries()) {
      await kill()
      await fleet.allRunners('online', 30_000)
      const strangers = [`a ${n}`, `b ${n}`]
      const answers = strangers.map((prompt) => fleet.run({ prompt, queue_timeout_s: 20 }))
      // One more turn, for which there is no slot either way.
      if (n === 1) turns.push(await fleet.start({ prompt: 'turn 4', session_id }))
      for (const prompt of strangers) await cli.finish(prompt)
      for (const answer of await Promise.all(answers)) expect(await answer.json()).toMatchObject({ status: 'succeeded' })
      for (const { id } of turns) expect((await fleet.get(id)).status).toBe('queued')
    }
    for (const [n] of [undefined, ...turns].entries()) await cli.finish(`turn ${n}`)
    await fleet.until(turns.at(-1)!.id, 'succeeded')
    expect(cli.order.filter((prompt) => prompt.startsWith('turn'))).toEqual(['turn 0', 'turn 1', 'turn 2', 'turn 3', 'turn 4'])
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

describe('the object of an idle runner', () => {
  it('sleeps, although a run that is over would have been given up after an hour without subscribers', async () => {
    const fleet = await startFleet(workersHost, {})
    try {
      const { id } = await fleet.runner({ turn: echo })
      const response = await fleet.run({ prompt: 'x', on_disconnect: { detach_for_s: 3_600 } })
      expect(await response.json()).toMatchObject({ status: 'succeeded' })
      await fleet.host.evictRunner(id, 'hibernate')
    } finally {
      await fleet.close()
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
