/**
 * Which sessions and folders runs of this process use, from before they are looked for until the run is forgotten. What is
 * in here is not cleaned away.
 */
import { isInside } from './workspace.ts'

/** Asking and holding are synchronous, so that whoever removes something can ask and act in one go. */
export class InUse {
  readonly #holds = new Map<string, number>()

  /** Names are ids of sessions or real paths. Returns what lets go of them, once. */
  hold(names: readonly string[]): () => void {
    for (const name of names) this.#holds.set(name, (this.#holds.get(name) ?? 0) + 1)
    let held = true
    return () => {
      if (held) for (const name of names) this.#letGo(name)
      held = false
    }
  }

  has(name: string): boolean {
    return this.#holds.has(name)
  }

  /** It, or something below it. */
  hasIn(folder: string): boolean {
    return [...this.#holds.keys()].some((name) => isInside(folder, name))
  }

  #letGo(name: string): void {
    const left = (this.#holds.get(name) ?? 1) - 1
    if (left > 0) this.#holds.set(name, left)
    else this.#holds.delete(name)
  }
}
