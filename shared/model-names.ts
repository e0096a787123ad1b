/**
 * How the CLI reads the name of a model that people write. The router decides by it what a run may ask for, and the gateway
 * holds each request against that, so both have to read names in the same way.
 */
type Env = Readonly<Record<string, string>>

/** Aliases that stand for others, by the state that the CLI is in. */
const PAIRS = new Map<string, readonly string[]>([['opusplan', ['opus', 'sonnet']]])

/** `opus[1m]` asks for the model opus. */
export function bare(model: string): string {
  return model.replace(/\[[^\]]*\]$/, '')
}

/** What a bare name stands for: itself, unless it is an alias of aliases. */
export function standsFor(name: string): readonly string[] {
  return PAIRS.get(name) ?? [name]
}

/** Whether a bare name may be an alias, which the CLI makes a model's name of. */
export function isAlias(name: string): boolean {
  return /^[a-z]+$/.test(name)
}

/** What the env of the CLI makes of an alias. Undefined: it says nothing of it, and `isOfFamily` tells. */
export function meaningOf(model: string, env: Env): string | undefined {
  const variable = `ANTHROPIC_DEFAULT_${bare(model).toUpperCase()}_MODEL`
  return Object.hasOwn(env, variable) ? env[variable] : undefined
}

/** Without a variable the CLI asks for a name with the alias among its parts, as `claude-opus-4-8`. `model` is bare. */
export function isOfFamily(model: string, alias: string): boolean {
  const [maker, ...parts] = model.split('-')
  return maker === 'claude' && parts.includes(alias)
}
