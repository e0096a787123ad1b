/**
 * The config files of a pool on their way to one of its runners, one connection at a time.
 *
 * The promise is `sync`: once it resolves, whatever was kept when it was called has been sent on this connection, and a
 * socket is ordered, so that what is offered afterwards finds it there. Who calls it, and when, is the seat's business.
 */
import type { ConfigFile } from '../../shared/config-files.ts'
import type { ConfigMessage, Configured, Hello } from '../../shared/frames.ts'
import { CONFIG_PART_BYTES } from '../../shared/limits.ts'
import type { Store } from '../ports.ts'
import { configVersion, readConfigSet, type PoolRef } from '../store/config-files.ts'

/** What a runner that can keep config files says in its hello. */
export const CONFIG_CAP = 'config'

export interface ConfigSource {
  version(pool: PoolRef): Promise<number>
  read(pool: PoolRef): Promise<{ readonly version: number; readonly files: readonly ConfigFile[] }>
}

/** `store` is asked for anew each time: not every host may keep one. */
export function configSource(store: () => Store): ConfigSource {
  return { version: (pool) => configVersion(store().db, pool), read: (pool) => readConfigSet(store(), pool) }
}

/** Where a connection stands. `has`: what its runner said of it. */
export interface ConfigStanding {
  readonly conn: number
  readonly sent: number
  readonly has: Configured | undefined
}

export interface ConfigSyncParts {
  readonly pool: PoolRef
  readonly source: ConfigSource
  readonly send: (message: ConfigMessage) => void
  /** The connection that may be sent to, once it said hello. */
  readonly link: () => { readonly conn: number; readonly hello: Hello } | undefined
  /** It stands elsewhere: for a host that may forget this and keep its socket. */
  readonly stands?: ((standing: ConfigStanding) => void) | undefined
}

export class ConfigSync {
  readonly #parts: ConfigSyncParts
  #standing: ConfigStanding | undefined
  #running: Promise<void> | undefined
  /** Begins when the one that runs is over, so that it reads what was there when it was asked for. */
  #next: Promise<void> | undefined

  constructor(parts: ConfigSyncParts) {
    this.#parts = parts
  }

  /** What the runner of this connection has; undefined as long as it has not said. */
  get has(): Configured | undefined {
    const { link } = this.#parts
    return this.#standing?.conn === link()?.conn ? this.#standing?.has : undefined
  }

  /** After its host has forgotten all but the socket. */
  restore(standing: ConfigStanding): void {
    this.#standing = standing
  }

  /** Without a connection, or with one that does not know of config files, there is nothing to do. Throws what the database does. */
  sync(): Promise<void> {
    if (!this.#link()) return Promise.resolve()
    if (!this.#running && !this.#next) return this.#begin()
    this.#next ??= (this.#running ?? Promise.resolve())
      .catch(() => undefined)
      .then(() => {
        this.#next = undefined
        return this.#begin()
      })
    return this.#next
  }

  heard(conn: number, { version, error }: Configured): void {
    if (this.#standing?.conn !== conn) return
    this.#stand({ ...this.#standing, has: { t: 'configured', version, ...(error === undefined ? {} : { error }) } })
  }

  #begin(): Promise<void> {
    const running = this.#once().finally(() => {
      if (this.#running === running) this.#running = undefined
    })
    this.#running = running
    return running
  }

  async #once(): Promise<void> {
    const { source, pool, send } = this.#parts
    const before = this.#link()
    if (!before) return
    if (this.#standing?.conn === before.conn && (await source.version(pool)) === this.#standing.sent) return
    const { version, files } = await source.read(pool)
    // A new connection begins anew, and asks for itself.
    if (this.#link()?.conn !== before.conn) return
    for (const message of partsOf(version, files)) send(message)
    const has = this.#standing?.conn === before.conn ? this.#standing.has : undefined
    this.#stand({ conn: before.conn, sent: version, has })
  }

  #link(): { readonly conn: number } | undefined {
    const link = this.#parts.link()
    return link?.hello.caps.includes(CONFIG_CAP) ? link : undefined
  }

  #stand(standing: ConfigStanding): void {
    this.#standing = standing
    this.#parts.stands?.(standing)
  }
}

/** At least one, as no files are news too. */
export function partsOf(version: number, files: readonly ConfigFile[]): ConfigMessage[] {
  const parts: ConfigFile[][] = [[]]
  let bytes = 0
  for (const file of files) {
    const size = encoder.encode(JSON.stringify(file)).length
    if (bytes > 0 && bytes + size > CONFIG_PART_BYTES) {
      parts.push([])
      bytes = 0
    }
    parts.at(-1)!.push(file)
    bytes += size
  }
  return parts.map((part, i) => ({ t: 'config', version, part: i, parts: parts.length, files: part }))
}

const encoder = new TextEncoder()
