/** The pool under any order of runs, deaths and time, as whoever takes from it sees it. */
import * as fc from 'fast-check'
import { expect, it } from 'vitest'
import { TestClock } from '../../test/kit/clock.ts'
import { PaperResident } from '../../test/kit/residents.ts'
import { WarmPool } from './pool.ts'

const MIB = 1_048_576
const BUDGET = 700 * MIB
const SESSIONS = ['a', 'b', 'c']
const TENANT: Record<string, string> = { k1: 'main', k2: 'main', k3: 'other' }

const session = fc.constantFrom(...SESSIONS)
const key = fc.constantFrom(...Object.keys(TENANT))
const nth = fc.nat(20)
const step = fc.oneof(
  { weight: 4, arbitrary: fc.record({ do: fc.constant('turn' as const), session, key }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('fresh' as const), key }) },
  { weight: 5, arbitrary: fc.record({ do: fc.constant('finish' as const), nth }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('withdraw' as const), nth }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('die' as const), nth }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('slow' as const), nth }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('grow' as const), nth, mib: fc.integer({ min: 50, max: 500 }) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('made' as const), ok: fc.boolean() }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('wait' as const), ms: fc.integer({ min: 1, max: 120_000 }) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('retire' as const), key }) },
)
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never

/** Whatever is due without time passing has happened. */
const settle = () => new Promise((resolve) => setImmediate(resolve))

class Caller {
  readonly clock = new TestClock()
  readonly all: PaperResident[] = []
  readonly running: PaperResident[] = []
  readonly #bytes = new Map<number, number>()
  readonly #starts: ((ok: boolean) => void)[] = []
  /** Of those that were handed out: dead, of another configuration, or somebody else's. */
  readonly #unfit: PaperResident[] = []
  readonly #last = new Map<string, Promise<void>>()
  #closed = false
  readonly pool = new WarmPool({
    clock: this.clock,
    limits: { idleMs: 300_000, budgetBytes: BUDGET, spares: 2 },
    memoryOf: async (pid) => this.#bytes.get(pid) ?? 0,
    log: () => undefined,
  })

  do(next: Step): void {
    if (next.do === 'turn') this.#inOrder(next.session, () => this.#turn(next.session, next.key))
    else if (next.do === 'fresh') this.#fresh(next.key)
    else if (next.do === 'finish') this.#giveBack(next.nth, true)
    else if (next.do === 'withdraw') this.#giveBack(next.nth, false)
    else if (next.do === 'made') this.#starts.shift()?.(next.ok)
    else if (next.do === 'wait') this.clock.advance(next.ms)
    else if (next.do === 'retire') this.pool.retire((resident) => resident.key === next.key)
    else this.#happens(next)
  }

  /** What of that which no schedule may break is broken, by name. */
  get broken(): string[] {
    const alive = this.all.filter((resident) => resident.cli.isAlive)
    const markers = (some: readonly string[]) => some.toSorted().join(' ')
    const holds = {
      'no two of a session': new Set(alive.map((resident) => resident.session)).size === alive.length,
      'nothing over the budget': this.pool.view().memory_bytes <= BUDGET,
      'disposed of once, when it is gone': this.all.every((resident) => resident.disposed === (resident.cli.isAlive ? 0 : 1)),
      'all that is alive is known': markers(this.pool.markers) === markers(alive.map((resident) => resident.marker)),
      'what is handed out fits': this.#unfit.length === 0,
    }
    return Object.entries(holds).filter(([, does]) => !does).map(([what]) => what)
  }

  async close(): Promise<void> {
    this.#closed = true
    const closing = this.pool.close()
    for (const done of this.#starts.splice(0)) done(true)
    for (let rounds = 0; rounds < 3; rounds++) {
      await settle()
      for (const resident of this.all) resident.cli.die()
    }
    await closing
  }

  /** Of one session one run is prepared at a time. */
  #inOrder(id: string, prepare: () => Promise<void>): void {
    this.#last.set(id, (this.#last.get(id) ?? Promise.resolve()).then(prepare))
  }

  async #turn(id: string, of: string): Promise<void> {
    const found = await this.pool.take(id, of, TENANT[of]!)
    if (!found && this.#closed) return
    this.#begin(found ?? this.#started(id, of), of)
  }

  #fresh(of: string): void {
    const spare = this.pool.takeSpare(of, TENANT[of]!)
    this.#begin(spare ?? this.#started(crypto.randomUUID(), of), of)
    // It does not heed its signal: what it makes comes too late.
    const start = () =>
      new Promise<PaperResident>((resolve, reject) => {
        this.#starts.push((ok) => (ok ? resolve(this.#made(crypto.randomUUID(), of)) : reject(new Error('no'))))
      })
    this.pool.wanted(of, start)
  }

  #begin(resident: { session: string; key: string; tenant: string }, of: string): void {
    const mine = this.all.find((one) => one === resident)!
    const isFit = mine.cli.isIdle && mine.key === of && mine.tenant === TENANT[of] && !this.running.includes(mine)
    if (!isFit) this.#unfit.push(mine)
    this.running.push(mine)
  }

  #started(id: string, of: string): PaperResident {
    const resident = this.#made(id, of)
    this.pool.adopt(resident)
    return resident
  }

  #made(id: string, of: string): PaperResident {
    const resident = new PaperResident(id, of, TENANT[of])
    this.all.push(resident)
    return resident
  }

  #giveBack(at: number, served: boolean): void {
    const [resident] = this.running.splice(at % Math.max(1, this.running.length), 1)
    if (!resident) return
    if (served && resident.cli.isAlive) void resident.serve()
    this.pool.giveBack(resident)
  }

  #happens(next: Extract<Step, { do: 'die' | 'slow' | 'grow' }>): void {
    const resident = this.all[next.nth % Math.max(1, this.all.length)]
    if (!resident) return
    if (next.do === 'die') resident.cli.die()
    else if (next.do === 'slow') resident.cli.isSlow = true
    else this.#bytes.set(resident.cli.pid, next.mib * MIB)
  }
}

it('never has two of a session, never waits over its budget, disposes of each once, and leaves nothing', async () => {
  const property = fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
    const caller = new Caller()
    for (const next of steps) {
      caller.do(next)
      await settle()
      expect(caller.broken).toEqual([])
    }
    await caller.close()
    expect(caller.broken).toEqual([])
    expect([caller.pool.view().processes, caller.pool.view().spares, caller.pool.markers, caller.clock.timers]).toEqual([0, 0, [], 0])
    expect(caller.all.filter((resident) => resident.cli.isAlive)).toEqual([])
  })
  await fc.assert(property, { numRuns: 400 })
})
