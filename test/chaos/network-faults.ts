/** Faults between the processes: silence, cuts, slowness, readers that do not read. */
import { residentMiB } from './stage.ts'
import { back, between, foundDead, pick, type Fault } from './fault.ts'

function halfOpen(seconds: number): Fault {
  return {
    name: `half-open-${seconds}`,
    what: `nothing passes between a runner and the router for ${seconds} s, and nobody says so`,
    seconds: seconds + 4,
    leastSeconds: seconds + 4,
    async act(act) {
      const [runner] = act.stage.runners
      do {
        act.inject()
        const since = performance.now()
        runner!.network.blackhole()
        if (seconds >= 30) await foundDead(act, runner!)
        await act.pause(seconds * 1_000 - (performance.now() - since))
        runner!.network.heal()
        await back(act, runner!)
        await act.pause(5_000)
      } while (!act.over)
    },
  }
}

const cuts: Fault = {
  name: 'cuts',
  what: 'connections of runners and clients reset at random',
  seconds: 20,
  async act(act) {
    do {
      await act.pause(between(200, 900))
      act.inject()
      act.stage.network.cut(0.3)
      if (Math.random() < 0.6) pick(act.stage.runners).network.cut()
    } while (!act.over)
  },
}

const runnerSocketsCut: Fault = {
  name: 'runner-sockets-cut',
  what: 'the sockets of all runners reset at once, again and again: workerd has to see it',
  host: 'workers',
  seconds: 20,
  notInCi: 'cuts is in it',
  async act(act) {
    do {
      await act.pause(between(500, 2_000))
      act.inject()
      for (const { network } of act.stage.runners) network.cut()
      for (const runner of act.stage.runners) await back(act, runner)
    } while (!act.over)
  },
}

const badNetwork: Fault = {
  name: 'bad-network',
  what: 'latency, little bandwidth, and writes of a few bytes',
  seconds: 20,
  async act(act) {
    const networks = [act.stage.network, ...act.stage.runners.map(({ network }) => network)]
    do {
      for (const shape of [{ latencyMs: 120 }, { bytesPerS: 1_000_000 }, { sliceBytes: 400 }, { latencyMs: 30, sliceBytes: 20_000 }]) {
        act.inject()
        for (const network of networks) network.shape(shape)
        await act.pause(2_500)
      }
    } while (!act.over)
    for (const network of networks) network.shape({})
  },
}

const stalledReaders: Fault = {
  name: 'stalled-readers',
  what: 'half of the subscribers do not read for 33 s while 8 MB a run are printed',
  seconds: 45,
  leastSeconds: 36,
  // The router lets go of a client that has taken nothing for 30 s.
  stallMs: 33_000,
  plan: (random) => ({ lines: 500 + Math.floor(random() * 100), everyMs: 50, bytes: 16_000 }),
  async act(act) {
    const before = await residentMiB(act.stage.router.pid)
    act.inject()
    while (!act.over) {
      await act.pause(500)
      act.note('router grew by MiB', (await residentMiB(act.stage.router.pid)) - before)
    }
  },
}

export const NETWORK_FAULTS: readonly Fault[] = [halfOpen(120), halfOpen(30), halfOpen(5), stalledReaders, cuts, runnerSocketsCut, badNetwork]
