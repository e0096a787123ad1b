/**
 * Processes for sessions that nobody has opened yet: how one is started, and whose the folder is that was made for it. How
 * many there are is the pool's to say.
 */
import { randomUUID } from 'node:crypto'
import { startCli, type Recipe } from '../cli-start.ts'
import type { Machine } from '../machine.ts'
import type { SpawnQueue } from '../spawns.ts'
import { undo } from '../undo.ts'
import { discard, resolveCwd, type Workspace } from '../workspace.ts'
import type { Resident } from './resident.ts'

export class Spares {
  readonly #machine: Machine
  readonly #spawns: SpawnQueue
  /** Their sessions are open, and their folders those of the sessions. */
  readonly #opened = new WeakSet<Resident>()

  constructor(machine: Machine, spawns: SpawnQueue) {
    this.#machine = machine
    this.#spawns = spawns
  }

  async take(recipe: Recipe, key: string): Promise<Resident | undefined> {
    const { warm, records } = this.#machine
    const spare = this.#isFor(recipe) ? warm.takeSpare(key, recipe.spec.tenant) : undefined
    if (!spare) return undefined
    this.#opened.add(spare)
    // Its folder is not to go with it any more.
    await records.write({ marker: spare.marker })
    return spare
  }

  /** A spare that was taken and whose id nobody was told: it is nobody's. */
  async drop(spare: Resident): Promise<void> {
    this.#opened.delete(spare)
    await spare.cli.cancel('kill')
    this.#machine.warm.giveBack(spare)
  }

  /** A run has opened a session with this configuration; others may follow. */
  learn(recipe: Recipe, key: string, workspace: Workspace): void {
    if (this.#isFor(recipe)) this.#machine.warm.wanted(key, (signal) => this.#start(recipe, workspace, signal))
  }

  /** Hooks of a repository run at the start, and must not run for nobody. */
  #isFor({ trust }: Recipe): boolean {
    return trust === undefined && this.#machine.policy.spares > 0
  }

  async #start(recipe: Recipe, like: Workspace, signal: AbortSignal): Promise<Resident> {
    const { spec } = recipe
    const session = { mode: 'new', id: randomUUID() } as const
    const isFresh = spec.cwd === undefined && spec.workspace === undefined
    const workspace = isFresh ? await resolveCwd({ ...this.#machine, tenant: spec.tenant, session }) : { cwd: like.cwd, created: false }
    try {
      const started = await startCli(this.#machine, this.#spawns, recipe, { session, workspace, marker: randomUUID(), signal, mayStay: true, isSpare: true })
      const spare: Resident = {
        ...started,
        dispose: async () => {
          await started.dispose()
          if (!this.#opened.has(spare)) await discard(workspace)
        },
      }
      return spare
    } catch (error) {
      await undo([() => discard(workspace)], this.#machine)
      throw error
    }
  }
}
