/**
 * Which models a provider may be asked for on behalf of a run. The list has names as people write them, aliases too; the CLI
 * has long chosen a model by them when its request comes here.
 */
import { bare, isAlias, isOfFamily, meaningOf, standsFor } from '../../shared/model-names.ts'

export type MayAsk = (asked: string) => boolean

/** `models` null: any. `env`: what the CLI was started with, which gives aliases their meaning. */
export function mayAsk(models: readonly string[] | null, env: Readonly<Record<string, string>>): MayAsk {
  if (models === null) return () => true
  const names = new Set(models.map(bare))
  const families: string[] = []
  for (const alias of [...names].flatMap(standsFor)) {
    if (!isAlias(alias)) continue
    const meant = meaningOf(alias, env)
    if (meant === undefined) families.push(alias)
    else names.add(bare(meant))
  }
  return (asked) => {
    const name = bare(asked)
    return names.has(name) || families.some((alias) => isOfFamily(name, alias))
  }
}
