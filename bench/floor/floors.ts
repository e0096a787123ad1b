/**
 * What the product is measured against, in the same run: relays of our own that have no feature at all.
 *
 * `one-hop` spawns the CLI where the request arrives; `two-hop` has a router and a runner, as the product has. A floor is
 * written as fast as we can, for a ratio to a weak one says nothing.
 */
import { startChild, type Child } from '../children.ts'
import { fakeClaude } from '../fake/build.ts'
import { used } from '../proc.ts'
import type { Target } from '../rig.ts'

const noToken = 'none'

export async function openOneHop(): Promise<Target> {
  const server = await startChild('floor/one-hop.js', [await fakeClaude()])
  return {
    name: 'one-hop',
    where: { port: (await server.ask('port')) as number, token: noToken },
    used: async () => ({ router: await used(server.pid), runner: undefined }),
    close: () => server.stop(),
  }
}

export interface TwoHopOptions {
  /** 0: none; whoever asked for the floor connects others with `connectRelay`. */
  readonly runners?: 0 | 1
}

export async function openTwoHop({ runners = 1 }: TwoHopOptions = {}): Promise<Target> {
  const router = await startChild('floor/relay-router.js')
  const port = (await router.ask('port')) as number
  let runner: Child | undefined
  if (runners === 1) runner = await startChild('floor/runner.js', [String(port), await fakeClaude()])
  return {
    name: 'two-hop',
    where: { port, token: noToken },
    used: async () => ({ router: await used(router.pid), runner: runner && (await used(runner.pid)) }),
    close: async () => {
      await runner?.stop()
      await router.stop()
    },
  }
}
