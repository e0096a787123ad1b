/**
 * What a run costs the object of its pool: one object serves a whole pool, so it must not be on everybody's way.
 *
 * The Worker is bundled with a pool object that writes a line for each call that it gets, and is the same otherwise. An
 * isolate remembers the directory for a second; workerd has one, Cloudflare one for each place and load.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { bundleWorker, WORKER_ENTRY } from '../edge/bundle.ts'
import { startFleet, type Fleet } from './kit/fleet.ts'
import { workersHost } from './kit/host-workers.ts'
import { echo, gate, type Turn } from './kit/turns.ts'
import { until } from './kit/wait.ts'

const MAX_PER_DISPATCH = 0.2
const RUNNERS = 4
const SLOTS = 10
const STEADY_RUNS = 200
const EVERY_MS = 50

/** Methods that are called from outside are on the prototype; what is private to the object is not. */
const COUNTING = `
import { PoolDO as Inner } from ${JSON.stringify(WORKER_ENTRY)}
export { default, RunnerDO, TenantDO } from ${JSON.stringify(WORKER_ENTRY)}
export class PoolDO extends Inner {}
for (const call of Object.getOwnPropertyNames(Inner.prototype)) {
  if (call === 'constructor') continue
  PoolDO.prototype[call] = function (...args) {
    console.log(JSON.stringify({ of: args[0], call }))
    return Inner.prototype[call].apply(this, args)
  }
}
`
type Call = { of?: { tenant: string; pool: string }; call: string }

describe('the object of a pool', () => {
  let dir: string
  let host: Fleet
  let fleet: Fleet
  let tenants = 0
  const calls: Call[] = []

  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'runyard-counting-'))
    const entry = join(dir, 'entry.js')
    const bundle = join(dir, 'worker.js')
    await writeFile(entry, COUNTING)
    await bundleWorker(entry, bundle)
    const onLine = (line: string) => line.startsWith('{"of"') && calls.push(JSON.parse(line) as Call)
    host = await startFleet(workersHost, { bundle, onLine })
  })
  afterAll(async () => {
    await host.close()
    await rm(dir, { recursive: true, force: true })
  })
  beforeEach(async () => void (fleet = await host.as(`tenant-${++tenants}`)))
  afterEach(() => fleet.close())

  async function connect(turn: Turn): Promise<void> {
    for (let n = 0; n < RUNNERS; n++) await fleet.runner({ turn, slots: SLOTS, name: `runner-${n}` })
  }

  /** What was asked of the pool during the work. */
  async function asked(work: () => Promise<void>): Promise<string[]> {
    const from = await counted()
    await work()
    return calls
      .slice(from, await counted())
      .flatMap(({ of, call }) => (of?.tenant === fleet.tenant && of.pool === 'default' ? call : []))
  }

  /** Every line so far has been read: lines come in order, and here is one more. */
  async function counted(): Promise<number> {
    const from = calls.length
    expect((await fleet.run({ prompt: 'nobody is there', pool: 'nobody', queue_timeout_s: 0 })).status).toBe(503)
    return until('the last line', () => {
      const at = calls.findIndex(
        ({ of, call }, i) => i >= from && of?.tenant === fleet.tenant && of.pool === 'nobody' && call === 'submit',
      )
      return at >= 0 && at
    })
  }

  it('is asked at most once in five dispatches while a fleet fills up, and by whoever finds it full', async () => {
    const turns = gate()
    await connect(turns.turn)
    const all = RUNNERS * SLOTS
    const filling = await asked(async () => {
      for (let n = 0; n < all; n++) await fleet.start({ prompt: `${n}` })
    })
    expect(filling.length / all, filling.join()).toBeLessThanOrEqual(MAX_PER_DISPATCH)
    expect((await fleet.runners()).map(({ busy }) => busy)).toEqual([SLOTS, SLOTS, SLOTS, SLOTS])
    const refusing = await asked(async () =>
      expect((await fleet.run({ prompt: 'one more', queue_timeout_s: 0 })).status).toBe(429),
    )
    expect(refusing).toContain('submit')
    for (let n = 0; n < all; n++) await turns.finish(`${n}`)
  })

  it('is asked at most once in five dispatches when all of them come at once', async () => {
    const turns = gate()
    await connect(turns.turn)
    const all = RUNNERS * SLOTS
    const burst = await asked(async () => {
      await Promise.all(Array.from({ length: all }, (_, n) => fleet.start({ prompt: `${n}` })))
    })
    expect(burst.length / all, burst.join()).toBeLessThanOrEqual(MAX_PER_DISPATCH)
    for (let n = 0; n < all; n++) await turns.finish(`${n}`)
  })

  it('is asked at most once in five dispatches of a steady stream of short runs', async () => {
    await connect(echo)
    const steady = await asked(async () => {
      const began = performance.now()
      for (let n = 0; n < STEADY_RUNS; n++) {
        await sleep(began + n * EVERY_MS - performance.now())
        const response = await fleet.run({ prompt: `${n}` })
        expect([response.status, await response.json()]).toMatchObject([200, { status: 'succeeded' }])
      }
    })
    expect(steady.length / STEADY_RUNS, steady.join()).toBeLessThanOrEqual(MAX_PER_DISPATCH)
  })
})
