/** The Node host in this process. Its restart is the orderly one; `kill -9` of the real process is in test/chaos. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { loadKeys } from '../../router/node/data-dir.ts'
import { startRouter, type RunningRouter } from '../../router/node/server.ts'
import type { Log } from '../../router/ports.ts'
import { startFleet, type Fleet } from './fleet.ts'
import type { Host, HostOptions, OpenHost } from './host.ts'

export const quiet: Log = { info: () => undefined, warn: () => undefined, error: () => undefined }

export interface NodeOptions extends HostOptions {
  readonly log?: Log
  /** A directory of the host's own unless given. */
  readonly dataDir?: string
}

export interface OpenNodeHost extends OpenHost {
  /** Another one after a restart. */
  readonly router: RunningRouter
  readonly dataDir: string
}

export const nodeHost: Host<OpenNodeHost, NodeOptions> = {
  name: 'node',
  can: {
    endsWaitingRequestsOnRestart: true,
    seesClientLeaveWithinMs: 1_000,
    seesWaitingClientLeave: true,
    forcesEviction: false,
    sendsUpgradeHeader: true,
    foreignUpgradeStatus: 426,
  },
  async open({ allowedHosts = [], corsOrigins = [], log = quiet, ...options }) {
    const dir = await mkdtemp(join(tmpdir(), 'runyard-node-'))
    const { dataDir = join(dir, 'data') } = options
    const fixed = { dataDir, host: '127.0.0.1', allowedHosts, corsOrigins, log }
    const start = (port: number) => startRouter({ timeoutS: 600, ...options, ...fixed, port })
    let router = await start(0)
    const { url } = router
    const restart = async () => {
      await router.close()
      router = await start(Number(new URL(url).port))
    }
    return {
      url,
      keys: await loadKeys(dataDir),
      dataDir,
      get router() {
        return router
      },
      restart,
      // It sweeps when it starts.
      prune: restart,
      async close() {
        await router.close()
        await rm(dir, { recursive: true, force: true })
      },
    }
  },
}

export const startNodeFleet = (options: NodeOptions = {}): Promise<Fleet<OpenNodeHost>> => startFleet(nodeHost, options)
