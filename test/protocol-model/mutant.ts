/** What a mutant of the protocol is, and how a method of the product is replaced by a faulty one. Which are tried is for mutants.ts. */
import type { Faults, World } from './world.ts'

export type Mutant = {
  readonly name: string
  /** The violations that it must be caught by. */
  readonly as: RegExp
  /** Replaces methods of the product; the result puts them back. */
  readonly patch?: () => () => void
  readonly faults?: (faults: Faults, world: World) => Faults
}

type Method<T, K extends keyof T> = T[K] extends (...args: infer A) => infer R ? (this: T, ...args: A) => R : never
type Wrap<T, K extends keyof T> = (original: Method<T, K>) => Method<T, K>

/** The result puts the original back. */
export function replace<T extends object, K extends keyof T>(on: T, name: K, make: Wrap<T, K>): () => void {
  const original = on[name] as Method<T, K>
  on[name] = make(original) as T[K]
  return () => void (on[name] = original as T[K])
}

export const all = (...undo: (() => void)[]) => () => undo.forEach((u) => u())
