/** Simulated runners as a process of their own: what they cost is theirs. Does what fleet.ts asks. */
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { importJWK, type CryptoKey } from 'jose'
import { answer } from '../children.ts'
import { connectRelay } from '../floor/relay-runner.ts'
import type { Roster } from './enlist.ts'
import { fetchAccessToken } from '../../runner/enroll.ts'
import { simulate, type SimulatedRunner } from './runner.ts'
import { paced } from './source.ts'

/** Handshakes under way: more would only wait in the router's line. */
const CONNECTING = 16
const DIALS = 3

/** `ended`: why a connection has, if one has. `lateP99Ms`: how late the process's own timers were. */
export type Health = { readonly connected: number; readonly ended: string | undefined; readonly lateP99Ms: number }

const runners: Pick<SimulatedRunner, 'ended'>[] = []
const late = monitorEventLoopDelay({ resolution: 5 })
late.enable()

answer({
  connect: async ({ roster: { url, ids, signingJwk }, slots }: { roster: Roster; slots: number }) => {
    const signingKey = (await importJWK(signingJwk, 'EdDSA')) as CryptoKey
    const dial = async (runnerId: string) => {
      const { token } = await fetchAccessToken({ url, runnerId, signingKey }, Date.now())
      return simulate(url, token, slots)
    }
    await atOnce(CONNECTING, ids, async (runnerId) => runners.push(await patiently(() => dial(runnerId))))
  },
  /** To the floor of bare.ts, which asks nobody who he is. */
  bare: ({ port, count }: { port: number; count: number }) =>
    atOnce(CONNECTING, Array.from({ length: count }), async () => runners.push(await simulate(`http://127.0.0.1:${port}`, 'none', 0))),
  /** The same for the two-hop floor, which knows no names. */
  relay: async ({ port, count }: { port: number; count: number }) => {
    for (let n = 0; n < count; n++) {
      await connectRelay(port, paced)
      runners.push({ ended: undefined })
    }
  },
  /** Since it was asked last. */
  health: (): Health => {
    const lateP99Ms = late.percentile(99) / 1e6
    late.reset()
    const ended = runners.find((runner) => runner.ended !== undefined)?.ended
    return { connected: runners.filter((runner) => runner.ended === undefined).length, ended, lateP99Ms }
  },
})

/** On a machine that is busy enough a handshake times out; a runner dials again then. */
async function patiently<T>(dial: () => Promise<T>): Promise<T> {
  for (let failed = 1; ; failed++) {
    try {
      return await dial()
    } catch (error) {
      if (failed === DIALS) throw error
    }
  }
}

async function atOnce<T>(most: number, values: readonly T[], work: (value: T) => Promise<unknown>): Promise<void> {
  const left = values.values()
  // One iterator for all of them: each takes what comes next.
  await Promise.all(Array.from({ length: most }, async () => {
    for (const value of left) await work(value)
  }))
}
