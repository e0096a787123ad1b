/**
 * Keeps `@path` mentions in a prompt inside the workspace.
 *
 * The CLI puts the content of a mentioned file, or the listing of a folder, into the request without asking for any
 * permission, even with no tools. This decides which mentions may stay and takes the effect of the others away; the
 * words stay readable. Not looked at, because CLI 2.1.197 does not expand them there (each tried): system prompts, agents'
 * prompts, prompts of subagents, tool results, and files that were themselves mentioned or read. It does follow imports
 * in the user's `CLAUDE.md`, wherever they lead: what is put there is for its writer to guard.
 *
 * What 2.1.197 takes for a mention, found by trying it against a model that records its requests:
 * - before the `@`: the start of the text, white space (as `\s`, so also U+00A0 and U+FEFF), or one of `。、？！`
 * - `@"…"`, over several lines too, trimmed; otherwise everything up to white space, cut back to an ASCII word boundary:
 *   `@/etc/motd).` is `/etc/motd`, and `@/srv/数` is the folder `/srv`
 * - both cut at the first `#` (`#L1-5`); a leading `~` or `~/` is the home folder; `$HOME`, `%2e`, `\ ` and `file:` mean nothing
 * - the rest goes through path.resolve, so `missing/../../x` climbs out although `missing` is not there
 */
import { lstat, realpath } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { isClosed, isInside, realRoots } from './workspace.ts'

/**
 * Put on both sides of the `@`. Before it, because then no mention begins there. Behind it as well, which older notes
 * relied on; alone it is not enough: `@a/../../x` would only become another missing folder to climb out of.
 */
const BREAK = '\u200b'
/**
 * Wider than what the CLI takes: all but letters of mail addresses and the quotes of `'@/lib'` in code. A break
 * before the `@` is one of ours.
 */
const AT = /(?<![A-Za-z0-9_"'`\u200b])@/g
const SPACE = /\s/g
/** What some other version might take off the front of a path. */
const LEADING = /^["'`“”‘’«<([{\u200b-\u200d\u2060\ufeff]+/
/** Paths that are outside, or might be, whatever the file system says. */
const ELSEWHERE = /^(?:~|\$\{?[A-Z_]+|(?:[\w-]+:)?file:)/

/** Past these a mention is broken without a look: a hostile prompt must not buy minutes of file system or CPU. */
const MAX_MENTION_CHARS = 1_024
const MAX_CUTS = 32
const MAX_MENTIONS = 2_000
/** Of all spans together, which may overlap. */
const MAX_READ_CHARS = 4_000_000
const MAX_LOOKUPS = 10_000

/**
 * The prompt with every mention broken that leads, or might lead, outside the workspace root that holds `cwd`; all other
 * text stays as it is. `cwd` and `closed`, what no run opens, are real paths. Absolute mentions outside are broken whether or not they exist, so that
 * the outcome tells nobody what does. The check is of this moment, as in workspace.ts.
 */
export async function guardMentions(prompt: string, cwd: string, roots: readonly string[], closed: readonly string[] = []): Promise<string> {
  if (!prompt.includes('@')) return prompt
  const real = (await realRoots(roots)).filter((root) => isInside(root, cwd))
  const stays = inWorkspace(cwd, [...new Set([...roots, ...real])], real, closed)
  const known = new Map<string, boolean>()
  async function mayStay(spans: readonly string[]): Promise<boolean> {
    read += spans.reduce((sum, span) => sum + span.length, 0)
    if (read > MAX_READ_CHARS || spans.some((span) => span.length > MAX_MENTION_CHARS)) return false
    const key = spans.join('\n')
    const ok = known.get(key) ?? (known.size < MAX_MENTIONS && (await everyReading(spans, stays)))
    if (known.size < MAX_MENTIONS) known.set(key, ok)
    return ok
  }

  let read = 0
  let guarded = ''
  let from = 0
  for (const { at, spans } of mentions(prompt)) {
    // One by one: thousands of lookups at once would starve other runs of the thread pool.
    if (await mayStay(spans)) continue
    guarded += `${prompt.slice(from, at)}${BREAK}@${BREAK}`
    from = at + 1
  }
  return guarded + prompt.slice(from)
}

/** For each `@` the texts that it may mention, as far as `MAX_MENTION_CHARS` and one more. */
function* mentions(prompt: string): Generator<{ at: number; spans: readonly string[] }> {
  let tokenEnd = 0
  for (const { index: at } of prompt.matchAll(AT)) {
    if (tokenEnd <= at) {
      SPACE.lastIndex = at
      tokenEnd = SPACE.exec(prompt)?.index ?? prompt.length
    }
    const spans: string[] = []
    if (tokenEnd > at + 1) spans.push(prompt.slice(at + 1, Math.min(tokenEnd, at + 2 + MAX_MENTION_CHARS)))
    if (prompt[at + 1] === '"') {
      const close = prompt.indexOf('"', at + 2)
      if (close >= 0) spans.push(prompt.slice(at + 2, Math.min(close, at + 3 + MAX_MENTION_CHARS)).trim())
    }
    if (spans.length > 0) yield { at, spans }
  }
}

async function everyReading(spans: readonly string[], stays: (path: string) => Promise<boolean>): Promise<boolean> {
  for (const span of spans) {
    const ends = endsOf(span)
    if (!ends) return false
    for (const end of ends) {
      const path = span.slice(0, end).trim()
      if (!(await stays(path)) || !(await stays(path.replace(LEADING, '')))) return false
    }
  }
  return true
}

/** Where the CLI may cut a span: at each `#`, and anywhere in the signs before it or at the end. */
function endsOf(span: string): Set<number> | undefined {
  const ends = new Set<number>()
  for (let stop = span.length; stop >= 0; stop = stop === 0 ? -1 : span.lastIndexOf('#', stop - 1)) {
    ends.add(stop)
    for (let end = stop; end > 0 && !/\w/.test(span[end - 1] ?? ''); end--) {
      ends.add(end - 1)
      // More signs than a path has.
      if (ends.size > MAX_CUTS) return undefined
    }
  }
  return ends
}

type Stays = (path: string) => Promise<boolean>

function inWorkspace(cwd: string, spelled: readonly string[], real: readonly string[], closed: readonly string[]): Stays {
  let lookups = 0
  /** Follows symlinks. What is not there yet is where its nearest existing parent is. */
  async function leadsInside(absolute: string): Promise<boolean> {
    for (let path = absolute; lookups++ < MAX_LOOKUPS; path = dirname(path)) {
      try {
        const target = await realpath(path)
        return real.some((root) => isInside(root, target)) && !isClosed(real, closed, target)
      } catch (error) {
        if (!isMissing(error) || path === dirname(path)) return false
      }
      // A link whose target is missing: answering for its parent would tell which targets exist.
      if (await isThere(path)) return false
    }
    return false
  }
  return async (path) => {
    if (path === '') return true
    if (ELSEWHERE.test(path)) return false
    const absolute = resolve(cwd, path)
    return spelled.some((root) => isInside(root, absolute)) && (await leadsInside(absolute))
  }
}

async function isThere(path: string): Promise<boolean> {
  try {
    await lstat(path)
    return true
  } catch (error) {
    return !isMissing(error)
  }
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ENOTDIR')
}
