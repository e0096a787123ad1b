/**
 * The waiting line as one request sees it. The usual way asks nobody but the runner's own object: the directory of the
 * pool is remembered for a second, and admission is atomic there. Who finds no room so goes to the pool.
 */
import { Fault } from '../../shared/faults.ts'
import { place } from '../core/placement.ts'
import type { Claim, NewRun, Place, RunRef, Store, WaitingLine } from '../ports.ts'
import { findRun } from '../store/runs.ts'
import { plain, revived, valueOf } from './answer.ts'
import type { Env } from './env.ts'
import { log } from './log.ts'
import type { Sight, Started } from './offers.ts'
import type { PoolDO, PoolName } from './pool-object.ts'

const FRESH_MS = 1_000
/** After so many refusals the pool decides, which knows who waits. */
const TRIES = 2
/** Who asks may have been cut off. */
const PATIENCE_MS = 300
const LOOK_FOR_ANSWER_MS = 5
const LOOK_AGAIN_MS = 100
const LOOKS = 5
/** More pools than this at once are looked up anew. */
const MAX_POOLS = 1_000

type Directory = { at: number; waiting: number; runners: Map<string, Sight> }
/** Plain data: what belongs to a request is never kept here. */
const directories = new Map<string, Directory>()
/** Since when somebody has been asking for a directory. */
const asking = new Map<string, number>()

export class WorkersLine implements WaitingLine {
  readonly #env: Env
  readonly #store: Store
  /** What this request began itself. */
  readonly #started = new Map<string, Started['outcome']>()
  /** What this request brought into a line, and which. */
  readonly #entered = new Map<string, PoolName>()

  constructor(env: Env, store: Store) {
    this.#env = env
    this.#store = store
  }

  async submit(run: NewRun, claim: Claim | undefined): Promise<'submitted' | 'taken'> {
    const name = { tenant: run.tenant, pool: run.pool }
    const directory = run.bound === null ? await this.#directory(name) : undefined
    const tried = new Set<string>()
    // Who waits has waited longer.
    const tries = directory?.waiting ? 0 : TRIES
    while (tried.size < tries) {
      const runner = directory ? choose(directory, run, tried) : (run.bound ?? undefined)
      if (runner === undefined || tried.has(runner)) break
      const { outcome, sight } = await this.#start(runner, run, claim)
      correct(name, runner, sight)
      if (outcome.is === 'taken') break
      if (outcome.is !== 'full') {
        this.#started.set(run.id, outcome)
        if (outcome.is === 'waiting') this.#entered.set(run.id, name)
        return 'submitted'
      }
      tried.add(runner)
    }
    try {
      const answer = valueOf(await this.#pool(name).submit(name, run, claim))
      if (answer === 'submitted') this.#entered.set(run.id, name)
      return answer
    } catch (error) {
      if (error instanceof Fault) throw error
      this.#started.set(run.id, await this.#lookFor(run, error))
      return 'submitted'
    }
  }

  async outcome(ref: RunRef, until: 'accepted' | 'placed', signal: AbortSignal): Promise<'accepted' | 'waiting' | 'unknown'> {
    const mine = this.#started.get(ref.run)
    if (mine?.is === 'accepted') return 'accepted'
    if (mine?.is === 'refused') throw revived(mine.fault)
    let line = this.#entered.get(ref.run)
    while (!signal.aborted) {
      // First, as a run that was refused has no row any more, and only its line knows why.
      const heard = line ? await this.#hear(line, ref, until) : 'unknown'
      if (heard !== 'unknown') return heard
      const row = await findRun(this.#store.db, ref.tenant, ref.run)
      if (row?.state === 'queued' && !line) {
        line = nameOf(row)
        continue
      }
      if (row?.state === 'offered' && row.runner !== null) {
        await this.#env.RUNNER.getByName(row.runner)
          .answered(ref.run)
          .catch(() => undefined)
      } else if (row?.state !== 'queued') return 'unknown'
      await pause(LOOK_AGAIN_MS)
    }
    return 'waiting'
  }

  #hear(line: PoolName, ref: RunRef, until: 'accepted' | 'placed'): Promise<'accepted' | 'waiting' | 'unknown'> {
    return insist(async () => valueOf(await this.#pool(line).outcome(line, ref, until)))
  }

  async position(run: Place): Promise<number | undefined> {
    return insist(async () => valueOf(await this.#pool(run).position(nameOf(run), run.id)))
  }

  async cancel(ref: RunRef): Promise<boolean> {
    const row = await findRun(this.#store.db, ref.tenant, ref.run)
    return row?.state === 'queued' ? insist(async () => valueOf(await this.#pool(row).cancel(nameOf(row), ref))) : false
  }

  async reprioritise(run: Place): Promise<void> {
    await insist(async () => valueOf(await this.#pool(run).reprioritise(nameOf(run), run.id)))
  }

  async #start(runner: string, run: NewRun, claim: Claim | undefined): Promise<Started> {
    try {
      return await this.#env.RUNNER.getByName(runner).start(run, claim)
    } catch (error) {
      return { outcome: await this.#lookFor(run, error), sight: null }
    }
  }

  /** Whoever was asked went away: it may have begun, and its row may still be on the way. Elsewhere it must not begin again. */
  async #lookFor(run: NewRun, error: unknown): Promise<Started['outcome']> {
    log.warn({ err: error, run: run.id }, 'an object did not answer')
    for (let looks = 0; looks < LOOKS; looks++) {
      if (await findRun(this.#store.db, run.tenant, run.id)) return { is: 'waiting' }
      await pause(LOOK_AGAIN_MS)
    }
    const fault = new Fault('no_runner', `who was asked for a slot went away; run ${run.id} may have begun`, {
      mayStart: true,
      extra: { run_id: run.id },
    })
    return { is: 'refused', fault: plain(fault) }
  }

  #pool({ tenant, pool }: PoolName): DurableObjectStub<PoolDO> {
    return this.#env.POOL.getByName(`${tenant}/${pool}`)
  }

  async #directory(name: PoolName): Promise<Directory> {
    const key = `${name.tenant}/${name.pool}`
    const begun = Date.now()
    // Of many at once one asks. The others look for its answer: to wait for another request's promise is not theirs.
    for (;;) {
      const known = directories.get(key)
      if (known && begun - known.at < FRESH_MS) return known
      const since = asking.get(key)
      if (since === undefined || Date.now() - since > PATIENCE_MS) break
      await pause(LOOK_FOR_ANSWER_MS)
    }
    if (asking.size >= MAX_POOLS) asking.clear()
    asking.set(key, Date.now())
    const { runners, waiting } = await insist(async () => valueOf(await this.#pool(name).directory(name))).finally(() =>
      asking.delete(key),
    )
    const fresh = { at: Date.now(), waiting, runners: new Map(runners.map((r) => [r.id, r])) }
    if (directories.size >= MAX_POOLS) directories.clear()
    directories.set(key, fresh)
    return fresh
  }
}

function choose(directory: Directory, run: NewRun, tried: ReadonlySet<string>): string | undefined {
  const placed = place(
    [...directory.runners.values()],
    { pool: run.pool, labels: run.labels, bound: undefined, needs: run.needs, tried },
    Math.random,
  )
  if (!placed.ok) return undefined
  const sight = directory.runners.get(placed.runner)!
  // Until its answer is here, the others of this second should not all choose it too.
  directory.runners.set(sight.id, { ...sight, busy: sight.busy + 1 })
  return sight.id
}

/** What a runner's object said is newer than what its pool had heard. */
function correct({ tenant, pool }: PoolName, runner: string, sight: Sight | null): void {
  const directory = directories.get(`${tenant}/${pool}`)
  if (sight) directory?.runners.set(runner, sight)
  else directory?.runners.delete(runner)
}

/** A question that does no harm when it is asked again. An object that is being restarted breaks what was asked of it. */
async function insist<T>(ask: () => Promise<T>): Promise<T> {
  for (let looks = 1; ; looks++) {
    try {
      return await ask()
    } catch (error) {
      if (error instanceof Fault) throw error
      if (looks === LOOKS)
        throw Object.assign(new Fault('no_runner', 'the line of the pool does not answer', { retryAfterS: 1 }), { cause: error })
      await pause(LOOK_AGAIN_MS)
    }
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}

const nameOf = ({ tenant, pool }: PoolName): PoolName => ({ tenant, pool })
