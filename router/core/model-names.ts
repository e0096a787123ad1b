/** Which names of models cover which, and what two lists of them have in common. How a name is read is shared/model-names. */
import { bare, isAlias, isOfFamily, meaningOf, standsFor } from '../../shared/model-names.ts'

type Env = Readonly<Record<string, string>>

/** Whether who allows `name` allows `model` too. */
export function covers(name: string, model: string, env: Env): boolean {
  const asked = bare(model)
  if (bare(name) === asked) return true
  return standsFor(bare(name)).some((alias) => {
    if (alias === asked || !isAlias(alias)) return alias === asked
    const meant = meaningOf(alias, env)
    return meant === undefined ? isOfFamily(asked, alias) : bare(meant) === asked
  })
}

/** What both allow, by the narrower name of each; null: any. */
export function both(ours: readonly string[] | null, theirs: readonly string[] | null, env: Env): string[] | null {
  if (ours === null || theirs === null) return ours === null ? theirs && [...theirs] : [...ours]
  const within = (names: readonly string[], others: readonly string[]) => names.filter((name) => others.some((other) => covers(other, name, env)))
  return [...new Set([...within(ours, theirs), ...within(theirs, ours)])]
}
