/**
 * Which models a provider may be asked for on behalf of a run. The list has names as people write them, aliases too; the CLI
 * has long chosen a model by them when its request comes here.
 */

/** What the CLI makes of an alias where no variable says otherwise: a name with it among its parts, as `claude-opus-4-8`. */
const ALIAS = /^[a-z]+$/
const PAIRS = new Map([['opusplan', ['opus', 'sonnet']]])

export type MayAsk = (asked: string) => boolean

/** `models` null: any. `env`: what the CLI was started with, which gives aliases their meaning. */
export function mayAsk(models: readonly string[] | null, env: Readonly<Record<string, string>>): MayAsk {
  if (models === null) return () => true
  const names = new Set(models.map(bare))
  const families: string[] = []
  for (const alias of [...names].flatMap((name) => PAIRS.get(name) ?? name)) {
    if (!ALIAS.test(alias)) continue
    const variable = `ANTHROPIC_DEFAULT_${alias.toUpperCase()}_MODEL`
    const meant = Object.hasOwn(env, variable) ? env[variable] : undefined
    if (meant === undefined) families.push(alias)
    else names.add(bare(meant))
  }
  return (asked) => {
    const name = bare(asked)
    const [maker, ...parts] = name.split('-')
    return names.has(name) || (maker === 'claude' && families.some((alias) => parts.includes(alias)))
  }
}

/** `opus[1m]` asks for the model opus. */
function bare(model: string): string {
  return model.replace(/\[[^\]]*\]$/, '')
}
