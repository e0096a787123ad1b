/** Many simulated runners, in as many processes as it takes so that none of them is what is measured. */
import { startChild, type Child } from '../children.ts'
import type { Roster } from './enlist.ts'
import type { Health } from './process.ts'

/** Beyond that a process would be near the descriptors that it may have, and near a core at one line a second each. */
const PER_PROCESS = 5_000

export class SimulatedFleet {
  readonly #members: Child[] = []

  /** Of the roster, these. Resolves when the router has greeted each of them. */
  async connect(roster: Roster, from: number, to: number, slots: number): Promise<void> {
    await this.#share(to - from, async (member, at, count) => {
      const ids = roster.ids.slice(from + at, from + at + count)
      await member.ask('connect', { roster: { ...roster, ids }, slots })
    })
  }

  /** To the floor of bare.ts. */
  async bare(port: number, runners: number): Promise<void> {
    await this.#share(runners, (member, _, count) => member.ask('bare', { port, count }))
  }

  /** Runners of the two-hop floor. */
  async relay(port: number, runners: number): Promise<void> {
    await this.#share(runners, (member, _, count) => member.ask('relay', { port, count }))
  }

  /** Since the last look at it: whether all are still there, and how late the latest process was. */
  async health(): Promise<Health> {
    const all = (await Promise.all(this.#members.map((member) => member.ask('health')))) as Health[]
    return {
      connected: all.reduce((sum, { connected }) => sum + connected, 0),
      ended: all.find(({ ended }) => ended !== undefined)?.ended,
      lateP99Ms: Math.max(...all.map(({ lateP99Ms }) => lateP99Ms)),
    }
  }

  async close(): Promise<void> {
    await Promise.all(this.#members.map((member) => member.stop()))
  }

  /** Among processes of its own. */
  async #share(total: number, work: (member: Child, at: number, count: number) => Promise<unknown>): Promise<void> {
    const members = await Promise.all(Array.from({ length: Math.ceil(total / PER_PROCESS) }, () => startChild('sim/process.js')))
    this.#members.push(...members)
    const upTo = (i: number) => Math.floor((i * total) / members.length)
    await Promise.all(members.map((member, i) => work(member, upTo(i), upTo(i + 1) - upTo(i))))
  }
}
