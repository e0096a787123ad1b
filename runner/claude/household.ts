/**
 * Who belongs to a CLI that is at rest: itself, what it is wrapped in, and its MCP servers, which all are there when it is
 * ready (2.1.197 starts the servers before it answers `initialize`). Who comes later is a tool's, a hook's or a server's,
 * and must not meet the next turn.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { descendantsOf, householdOf, nameOf } from './sweep.ts'

/** A shell that is ending may still be there when the result is. */
const ROUNDS = 5
const ROUND_MS = 50

export class Household {
  readonly #pid: number
  readonly #marker: string
  readonly #members: Promise<ReadonlySet<string>>

  /** `alone`: there is nobody but the process itself, so nobody needs to be looked for. */
  constructor(pid: number, marker: string, alone: boolean) {
    this.#pid = pid
    this.#marker = marker
    this.#members = alone ? Promise.resolve(new Set()) : membersOf(pid, marker)
  }

  /** Resolves when it is known who they are. Until then nothing may be started that does not belong to them. */
  async settled(): Promise<void> {
    await this.#members
  }

  /** Whether there is, or may be, anybody else now, and still after a short moment. */
  async hasGuests(): Promise<boolean> {
    const members = await this.#members
    for (let round = 0; round < ROUNDS; round++) {
      if (round > 0) await sleep(ROUND_MS)
      const { members: present, isWhole } = await householdOf(this.#pid, this.#marker)
      // Where no process can be seen, nobody can be ruled out.
      if (!present.some(({ pid }) => pid === this.#pid)) return true
      if (isWhole && present.every((one) => one.pid === this.#pid || members.has(nameOf(one)))) return false
    }
    return true
  }
}

/** Whoever is missed here is a guest later: then the process ends with its turn, and nothing worse. */
async function membersOf(pid: number, marker: string): Promise<ReadonlySet<string>> {
  const all = (await descendantsOf(pid)) ?? (await householdOf(pid, marker)).members
  return new Set(all.map(nameOf))
}
