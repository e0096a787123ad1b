/**
 * Which handlers a path has. Hono's fast router is one regular expression for all paths, and takes none where a fixed name
 * and a parameter stand in one place, as in `/v1/sessions/search` and `/v1/sessions/:id`: by default the whole app then
 * has the slow one, which takes ten times as long.
 *
 * So the fast one has only paths with a parameter or a wildcard, and what is asked for by a path that is written out goes to
 * the other, which has all of them.
 */
import type { Result, Router } from 'hono/router'
import { RegExpRouter } from 'hono/router/reg-exp-router'
import { TrieRouter } from 'hono/router/trie-router'

export class Paths<T> implements Router<T> {
  readonly name = 'Paths'
  readonly #all = new TrieRouter<T>()
  readonly #open = new RegExpRouter<T>()
  readonly #fixed = new Set<string>()

  /** Throws where two paths with parameters have that in one place: then one of them needs another name. */
  add(method: string, path: string, handler: T): void {
    this.#all.add(method, path, handler)
    if (/[:*]/.test(path)) this.#open.add(method, path, handler)
    else this.#fixed.add(path)
  }

  match(method: string, path: string): Result<T> {
    return (this.#fixed.has(path) ? this.#all : this.#open).match(method, path)
  }
}
