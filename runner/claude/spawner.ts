/**
 * CLIs are spawned by a small process beside the runner, which hands their pipes over.
 *
 * A process that forks stands still while its page tables are copied: for a runner of 168 MiB that streams, the pause was 45
 * ms in the middle (Node 20, libuv 1.46), for one of 370 MiB 54; from a thread 31 and 33; from a process of 45 MiB beside
 * it, none that could be told from the others. Each live stream of the runner would wait for it.
 *
 * The pipes are sockets between the runner and the CLI, as they are without this: what a CLI prints passes nobody. The
 * helper is started when it is needed first, and again should it die; what it had spawned is killed then. One that cannot
 * bring its pipes here is replaced: its folder may have been taken for old files. Where no helper can be had the runner
 * spawns by itself, and asks for one again the next time. It ends with the runner, and a sandbox that dies with its parent
 * dies with it.
 */
import { spawnHere, type Spawned, type SpawnOptions } from './spawned.ts'
import { Helper } from './spawner-helper.ts'
import { Unreached } from './spawner-start.ts'

/** With a new helper each. */
const ATTEMPTS = 2

export class Spawner {
  #helper: Promise<Helper> | undefined
  #isAlone = false

  /** Starts the helper, if there is none. Rejects where there can be none; CLIs start all the same. */
  async ready(): Promise<void> {
    await this.#living()
  }

  /**
   * Rejects with what Node says of a spawn that fails. The process is in a group of its own, so that a signal for it does not
   * reach the runner.
   */
  async spawn(command: string, argv: readonly string[], options: SpawnOptions): Promise<Spawned> {
    let err: unknown
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const helper = this.#living()
      try {
        const spawned = await (await helper).spawn(command, argv, options)
        this.#isAlone = false
        return spawned
      } catch (error) {
        if (!(error instanceof Unreached)) throw error
        err = error
        await this.#retire(helper)
      }
    }
    if (!this.#isAlone) options.log('CLIs are spawned by the runner itself, whose streams wait for each of them', { err })
    this.#isAlone = true
    return spawnHere(command, argv, options)
  }

  #living(): Promise<Helper> {
    const helper = (this.#helper ??= Helper.start(() => this.#drop(helper)))
    helper.catch(() => this.#drop(helper))
    return helper
  }

  #drop(helper: Promise<Helper>): void {
    if (this.#helper === helper) this.#helper = undefined
  }

  async #retire(helper: Promise<Helper>): Promise<void> {
    this.#drop(helper)
    const retired = await helper.catch(() => undefined)
    retired?.retire()
  }
}
