/**
 * A runner that speaks `runyard.v1` like a real one, and has no CLI, no spool and no policy: what it costs the router is
 * real, what it costs this machine is little.
 *
 * It keeps one connection. When that ends its runs are over, and so is the measurement it was part of.
 */
import { randomUUID } from 'node:crypto'
import type { ToRouter, ToRunner } from '../../shared/frames.ts'
import { HEARTBEAT_MS } from '../../shared/limits.ts'
import { PROTO_MAX, PROTO_MIN, VERSION } from '../../shared/version.ts'
import { connect, type Connection } from '../../runner/connection.ts'
import type { Transport } from '../../runner/sender.ts'
import { CWD, SimulatedRun } from './run.ts'
import { paced } from './source.ts'

export interface SimulatedRunner {
  /** Why the connection has ended, if it has. */
  readonly ended: string | undefined
}

/** Connects, and resolves when the router has greeted it. */
export async function simulate(url: string, token: string, slots: number): Promise<SimulatedRunner> {
  const runner = new Runner(slots)
  const connection = connect(url, token, {
    opened: (transport) => runner.opened(transport),
    message: (message) => runner.receive(message),
    log: () => undefined,
  })
  let ended: string | undefined
  void connection.ended.then(({ code, reason }) => {
    ended = `${code} ${reason}`
    runner.close()
  })
  await Promise.race([runner.welcomed, refused(connection)])
  return {
    get ended() {
      return ended
    },
  }
}

async function refused({ ended }: Connection): Promise<never> {
  const { code, reason } = await ended
  throw new Error(`a simulated runner was let go: ${code} ${reason}`)
}

class Runner {
  readonly welcomed: Promise<void>
  readonly #slots: number
  /** By run; a runner holds few, and an idle one none. */
  readonly #runs = new Map<string, SimulatedRun>()
  #greeted: () => void = () => undefined
  #transport: Transport | undefined
  #heart: NodeJS.Timeout | undefined
  #beats = 0

  constructor(slots: number) {
    this.#slots = slots
    this.welcomed = new Promise((resolve) => (this.#greeted = resolve))
  }

  opened(transport: Transport): void {
    this.#transport = transport
    const who = { boot: randomUUID(), conn: 1, agent: VERSION, cli: null, os: 'simulated', caps: [] }
    this.#send({ t: 'hello', proto: [PROTO_MIN, PROTO_MAX], ...who, slots: this.#slots, labels: {}, provider: 'local', runs: [] })
  }

  receive(message: ToRunner): void {
    switch (message.t) {
      case 'welcome':
        return this.#greeted()
      case 'offer': {
        const { id: re, run, fence } = message
        this.#runs.set(run, new SimulatedRun(message, (data) => this.#transport?.send(data), paced))
        this.#heart ??= setInterval(() => this.#beat(), HEARTBEAT_MS)
        return this.#send({ t: 'accept', re, run, fence, cwd: CWD })
      }
      case 'lease':
        for (const [run] of message.l) this.#runs.get(run)?.go()
        return
      case 'ack':
        for (const [run, , seq, , window] of message.a) this.#runs.get(run)?.outbox.ack(seq, window)
        return
      case 'cancel':
        return this.#runs.get(message.run)?.cancel()
      case 'revoke':
      case 'forget':
        this.#runs.get(message.run)?.drop()
        this.#runs.delete(message.run)
        if (this.#runs.size === 0) this.#rest()
        return
      // It has no files to keep, its token outlives what is measured, and where it would go there is nothing to measure.
      case 'config':
      case 'token':
      case 'goaway':
      case 'err':
        return
    }
  }

  close(): void {
    this.#rest()
    for (const run of this.#runs.values()) run.drop()
    this.#runs.clear()
    this.#transport = undefined
  }

  /** Without runs there are no heartbeats; pings go on. */
  #rest(): void {
    clearInterval(this.#heart)
    this.#heart = undefined
  }

  #beat(): void {
    const runs = [...this.#runs.values()].map(({ ref, outbox }) => [ref.run, ref.fence, outbox.last] as [string, number, number])
    this.#send({ t: 'hb', id: `h${++this.#beats}`, runs, free: Math.max(0, this.#slots - runs.length), load: 0, disk_free: 1e9 })
  }

  #send(message: ToRouter): void {
    this.#transport?.send(JSON.stringify(message))
  }
}
