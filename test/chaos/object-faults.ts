/** Faults that only objects have: broken in the middle of what they do, or thrown out of memory when they do nothing. */
import { back, between, type Act, type Fault } from './fault.ts'
import { ordinaryPlan } from './load.ts'

const WORKERS = 'workers'

const objectsAbort: Fault = {
  name: 'objects-abort',
  what: 'every object broken in the middle of what it does, with its sockets and streams',
  host: WORKERS,
  seconds: 25,
  async act(act) {
    do {
      await act.pause(between(800, 2_500))
      act.inject()
      await act.stage.objects.abort()
      for (const runner of act.stage.runners) await back(act, runner)
    } while (!act.over)
  },
}

const idleEviction: Fault = {
  name: 'idle-eviction',
  what: 'objects thrown out of memory between two waves of runs, with their sockets kept and cut in turn',
  host: WORKERS,
  seconds: 30,
  notInCi: 'the suite of the hosts has it',
  plan: ordinaryPlan(1_500),
  async act(act) {
    do {
      for (const sockets of ['hibernate', 'close'] as const) {
        await act.pause(between(500, 1_500))
        await act.lull()
        act.inject()
        for (const { id } of act.stage.runners) await evicted(act, () => act.stage.objects.evict(id, sockets))
        await evicted(act, () => act.stage.objects.evictPool())
        // The next wave is the first that they hear.
        await act.goOn()
      }
    } while (!act.over)
  },
}

/** A timer of the waiting line may run on for 20 s after the last run. */
const IN_USE_MS = 30_000

async function evicted(act: Act, evict: () => Promise<void>): Promise<void> {
  const since = performance.now()
  for (let done = false; !done; ) {
    done = await evict().then(
      () => true,
      (error: unknown) => {
        if (performance.now() - since > IN_USE_MS) throw new Error('an object with nothing to do stays in memory', { cause: error })
        return false
      },
    )
  }
  act.note('evicted after s', (performance.now() - since) / 1_000)
}

export const OBJECT_FAULTS: readonly Fault[] = [objectsAbort, idleEviction]
