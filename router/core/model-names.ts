/**
 * Names of models as people write them, and what the CLI asks for when it is given one. The gateway holds each request
 * against the names that are decided on here (runner/gateway/allowed.ts reads them in the same way).
 */
type Env = Readonly<Record<string, string>>

/** Without a variable that says otherwise the CLI asks for a name with the alias among its parts, as `claude-opus-4-8`. */
const ALIAS = /^[a-z]+$/
/** Aliases that stand for others, by the state that the CLI is in. */
const PAIRS = new Map([['opusplan', ['opus', 'sonnet']]])

/** `opus[1m]` asks for the model opus. */
export function bare(model: string): string {
  return model.replace(/\[[^\]]*\]$/, '')
}

/** What the env of the CLI makes of an alias. Undefined: it says nothing of it. */
export function meaningOf(model: string, env: Env): string | undefined {
  const variable = `ANTHROPIC_DEFAULT_${bare(model).toUpperCase()}_MODEL`
  return Object.hasOwn(env, variable) ? env[variable] : undefined
}

/** Whether who allows `name` allows `model` too. */
export function covers(name: string, model: string, env: Env): boolean {
  const asked = bare(model)
  if (bare(name) === asked) return true
  return (PAIRS.get(bare(name)) ?? [bare(name)]).some((alias) => {
    if (alias === asked || !ALIAS.test(alias)) return alias === asked
    const meant = meaningOf(alias, env)
    if (meant !== undefined) return bare(meant) === asked
    const [maker, ...parts] = asked.split('-')
    return maker === 'claude' && parts.includes(alias)
  })
}

/** What both allow, by the narrower name of each; null: any. */
export function both(ours: readonly string[] | null, theirs: readonly string[] | null, env: Env): string[] | null {
  if (ours === null || theirs === null) return ours === null ? theirs && [...theirs] : [...ours]
  const within = (names: readonly string[], others: readonly string[]) => names.filter((name) => others.some((other) => covers(other, name, env)))
  return [...new Set([...within(ours, theirs), ...within(theirs, ours)])]
}
