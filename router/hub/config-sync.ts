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

/** The seat of the runner, as far as it matters here. */
export interface ConfigPeer {
  readonly who: PoolRef
  /** The connection that may be sent to, once it said hello. */
  readonly socket: { readonly conn: number; send(message: ConfigMessage): void } | undefined
  readonly core: { readonly hello: Pick<Hello, 'caps'> | undefined }
}

export class ConfigSync {
  readonly #peer: ConfigPeer
  readonly #source: ConfigSource
  readonly #stands: ((standing: ConfigStanding) => void) | undefined
  #standing: ConfigStanding | undefined
  #running: Promise<void> | undefined
  /** Begins when the one that runs is over, so that it reads what was there when it was asked for. */
  #next: Promise<void> | undefined

  /** `stands`: it stands elsewhere, for a host that may forget this and keep its socket. */
  constructor(peer: ConfigPeer, source: ConfigSource, stands?: (standing: ConfigStanding) => void) {
    this.#peer = peer
    this.#source = source
    this.#stands = stands
  }

  /** What the runner of this connection has; undefined as long as it has not said. */
  get has(): Configured | undefined {
    return this.#standing?.conn === this.#link()?.conn ? this.#standing?.has : undefined
  }

  /** After its host has forgotten all but the socket. */
  restore(standing: ConfigStanding): void {
    this.#standing = standing
  }

  /** Without a connection, or with one that does not know of config files, there is nothing to do. Throws what the database does. */
  sync(): Promise<void> {
    if (!this.#knowing()) return Promise.resolve()
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
    const source = this.#source
    const before = this.#knowing()
    if (!before) return
    if (this.#standing?.conn === before.conn && (await source.version(this.#peer.who)) === this.#standing.sent) return
    const { version, files } = await source.read(this.#peer.who)
    // A new connection begins anew, and asks for itself.
    if (this.#knowing()?.conn !== before.conn) return
    for (const message of partsOf(version, files)) before.send(message)
    const has = this.#standing?.conn === before.conn ? this.#standing.has : undefined
    this.#stand({ conn: before.conn, sent: version, has })
  }

  #link(): ConfigPeer['socket'] {
    return this.#peer.core.hello && this.#peer.socket
  }

  /** One that knows of config files. */
  #knowing(): ConfigPeer['socket'] {
    return this.#peer.core.hello?.caps.includes(CONFIG_CAP) ? this.#peer.socket : undefined
  }

  #stand(standing: ConfigStanding): void {
    this.#standing = standing
    this.#stands?.(standing)
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
