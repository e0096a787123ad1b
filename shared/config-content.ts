/**
 * What the files of a pool may hold, so that instructions stay instructions: nothing in them may start a command, bring a
 * file of the machine to a model or widen what a run is allowed. Router and runner ask the same question, the runner last.
 *
 * Seen on CLI 2.1.197, each by trying it: hooks of an agent run commands in any mode; `@path` in CLAUDE.md, rules and
 * skills brings any file that the CLI can read into the request, its own login as well, and not only at the start of a
 * word; `` !`command` `` in a skill is run. In code such a mention does nothing, but who reads code as Markdown
 * is not agreed on, so it is not looked at what is code.
 */
import type { ConfigFile, ConfigKind } from './config-files.ts'

/** Its keys. What is not here may be harmless, or mean something to the next version of the CLI. */
const KEYS: Record<ConfigKind, readonly string[]> = {
  // Those of an agent that comes with a run, but for `permissionMode`, which would replace the mode of whoever runs.
  agents: ['name', 'description', 'tools', 'disallowedTools', 'model', 'maxTurns', 'effort', 'color'],
  skills: [
    'name',
    'description',
    'when_to_use',
    'argument-hint',
    'arguments',
    'user-invocable',
    'disable-model-invocation',
    'disallowed-tools',
    'model',
    'effort',
    'paths',
    'version',
    'license',
    'compatibility',
    'metadata',
  ],
  rules: ['name', 'description', 'paths', 'globs', 'alwaysApply'],
  'claude-md': ['name', 'description', 'paths'],
}

/** Not even further in, where another reader of YAML might find them. */
const DANGEROUS = /^[\s?-]*["']?(?:hooks|mcp[-_]?servers|permission[-_]?mode|allowed[-_]?tools|initial[-_]?prompt)["']?\s*:/im

/** Bytes that no text has; a line separator of YAML that is none to others could hide a key. */
// oxlint-disable-next-line no-control-regex -- these are what it is about
const NO_TEXT = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f\u0085\u2028\u2029\ufeff\ufffe\uffff]|\r(?!\n)/

/** Undefined: it may be kept. Otherwise why not, for whoever wrote it. */
export function configRefusal({ kind, content }: ConfigFile): string | undefined {
  const bad = NO_TEXT.exec(content)
  if (bad) return `has a character that is no text: U+${bad[0].charCodeAt(0).toString(16).padStart(4, '0').toUpperCase()}`
  if (/\p{Cs}/u.test(content)) return 'has half of a surrogate pair'
  const text = content.replaceAll('\r\n', '\n')
  const front = frontRefusal(kind, text)
  // The CLI does not look for files or commands in what it tells an agent.
  if (front !== undefined || kind === 'agents') return front
  return mentionRefusal(kind, text) ?? (kind === 'skills' ? commandRefusal(text) : undefined)
}

/** The line `description:` of the front matter, without quotes. `text` may be the beginning of a file. */
export function descriptionOf(text: string): string | null {
  const front = frontOf(text.replaceAll('\r\n', '\n'))
  const line = front === undefined ? undefined : /^description:[^\S\n]*(\S.*?)[^\S\n]*$/m.exec(front)?.[1]
  if (line === undefined) return null
  return /^(["'])(.*)\1$/.exec(line)?.[2] ?? line
}

const BEGIN = /^---\s*\n/

/** Up to a line `---`, or, as the CLI does, up to any `---`. */
function frontOf(text: string): string | undefined {
  if (!BEGIN.test(text)) return undefined
  return (/^---\s*\n([\s\S]*?)^---\s*$/m.exec(text) ?? /^---\s*\n([\s\S]*?)---/.exec(text))?.[1]
}

/** Of YAML only what cannot be read in two ways: a plain key at the start of a line, and what belongs to it further in. */
function frontRefusal(kind: ConfigKind, text: string): string | undefined {
  if (!BEGIN.test(text)) return undefined
  const front = frontOf(text)
  if (front === undefined) return 'its front matter has no end: a line with nothing but ---'
  let inKey = false
  for (const line of front.split('\n')) {
    if (line.trim() === '' || line.startsWith('#')) continue
    if (/^\s/.test(line) || (inKey && line.startsWith('- '))) {
      if (!inKey) return 'its front matter begins further in than at the start of a line'
      continue
    }
    const key = /^([A-Za-z][\w-]*):(?:\s|$)/.exec(line)?.[1]
    if (key === undefined) return `its front matter has a line that is no \`key: value\`: ${JSON.stringify(line.slice(0, 64))}`
    if (!KEYS[kind].includes(key)) return `its front matter may have ${KEYS[kind].join(', ')}; not ${key.slice(0, 64)}`
    inKey = true
  }
  const dangerous = DANGEROUS.exec(front)
  return dangerous ? `its front matter has a line that could be read as ${JSON.stringify(dangerous[0].trim())}` : undefined
}

/** A longer word is no name of a file that anybody has, and not worth looking at. */
const MAX_PATH_CHARS = 256
const MAX_MENTIONS = 5_000
/** A letter or digit in front makes it a mail address; a quote belongs to code, unless it is escaped and thus ends a text. */
const AT = /(?<![A-Za-z0-9]|(?<!\\)["'])@(?=((?:[^\s\\]|\\[^\n]){1,257}))/g
/** Where the CLI takes an `@` for a mention in a prompt, as which it reads a skill. */
const PROMPT_AT = /(?:^|[\s。、？！])$/
/** What the CLI takes for a text when it imports; past the name of a file with another end it does not look. */
const TEXT_END =
  /\.(?:md|txt|text|jsonl?|ya?ml|toml|xml|csv|html?|css|s[ac]ss|less|[jt]sx?|[mc][jt]s|py[iw]?|rb|erb|rake|go|rs|java|kts?|scala|c|cc|cpp|cxx|h|hpp|hxx|cs|swift|sh|bash|zsh|fish|ps1|bat|cmd|env|ini|cfg|conf|config|properties|sql|graphql|gql|proto|vue|svelte|astro|ejs|hbs|pug|jade|php|pl|pm|lua|r|dart|exs?|erl|hrl|clj[sc]?|edn|l?hs|mli?|elm|f|f90|f95|for|cmake|make|makefile|gradle|sbt|rst|adoc|asciidoc|org|tex|latex|lock|log|diff|patch)$/i

/** Names a file, as `@./x`, `@~/x`, `@/x`, `@notes.md`; `@param`, `@Get()` and `@scope/name` name none. */
function mentionRefusal(kind: ConfigKind, text: string): string | undefined {
  let mentions = 0
  for (const { 1: path = '', index } of text.matchAll(AT)) {
    if (++mentions > MAX_MENTIONS) return `has more than ${MAX_MENTIONS} times an @`
    // In a skill it leads into the workspace, where a link may lead out again.
    const isWay = kind === 'skills' && path.includes('/') && PROMPT_AT.test(text.slice(Math.max(0, index - 1), index))
    if (path.length <= MAX_PATH_CHARS && !isWay && !namesFile(path)) continue
    return `${JSON.stringify(`@${path.slice(0, 64)}`)} would be read as a file of the machine; write it without the @, or in quotes`
  }
  return undefined
}

function namesFile(path: string): boolean {
  if (/^[./~$"'\\%]/.test(path) || /[/\\]\./.test(path)) return true
  // A text may end at any sign of Markdown, and a path at `#`.
  for (let end = path.length; end > 0; end--) {
    const isEnd = end === path.length || /[^A-Za-z0-9.-]/.test(path[end] ?? '')
    if (isEnd && TEXT_END.test(path.slice(Math.max(0, end - 16), end))) return true
  }
  return false
}

function commandRefusal(text: string): string | undefined {
  const found = /!`|`!/.exec(text)
  return found ? `${found[0]} begins a command, which a skill of a pool may not have` : undefined
}
