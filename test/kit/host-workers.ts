/** The Workers host: the bundled Worker in workerd, with its D1 and its objects in a directory. A restart is a SIGKILL. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { bundleWorker, WRANGLER } from '../../edge/bundle.ts'
import { startWorkerd } from '../../edge/workerd.ts'
import { loadKeys, workerSecrets } from '../../router/node/data-dir.ts'
import type { Host, HostOptions, OpenHost } from './host.ts'

const DAY_MS = 86_400_000
/** A silent stream is written to this often, and so is a client that left noticed. */
const COMMENT_EVERY_MS = 500

export interface WorkersOptions extends HostOptions {
  /** Further variables of the Worker. */
  readonly vars?: Record<string, string>
  /** Another bundle than that of the Worker as it is. */
  readonly bundle?: string
  readonly onLine?: (line: string) => void
}

export interface OpenWorkersHost extends OpenHost {
  evictRunner(id: string, how: 'hibernate' | 'close'): Promise<void>
  evictPool(tenant: string, pool: string): Promise<void>
  kill(): Promise<number>
  /** As the cron trigger of wrangler.toml does, and waits for it. */
  cron(): Promise<void>
  /** Where its databases are. */
  readonly stateDir: string
}

/** One bundle for all hosts of a process; on disk only while one of them uses it. */
let bundled: Promise<Buffer> | undefined

function ourBundle(): Promise<Buffer> {
  bundled ??= mkdtemp(join(tmpdir(), 'runyard-bundle-')).then(async (dir) => {
    try {
      const { path } = await bundleWorker(undefined, join(dir, 'worker.js'))
      return await readFile(path)
    } finally {
      await rm(dir, { recursive: true, force: true })
    }
  })
  return bundled
}

export const workersHost: Host<OpenWorkersHost, WorkersOptions> = {
  name: 'workers',
  can: {
    endsWaitingRequestsOnRestart: false,
    seesClientLeaveWithinMs: 3 * COMMENT_EVERY_MS,
    seesWaitingClientLeave: false,
    forcesEviction: true,
    sendsUpgradeHeader: false,
    foreignUpgradeStatus: 200,
  },
  async open({ publicUrl, allowedHosts = [], corsOrigins = [], blockedMs, keep, vars = {}, bundle, onLine }) {
    const dir = await mkdtemp(join(tmpdir(), 'runyard-workers-'))
    const keys = await loadKeys(dir)
    const options = {
      bundle: join(dir, 'bundle.js'),
      wrangler: WRANGLER,
      dir: join(dir, 'state'),
      unsafe: true,
      ...(onLine ? { onLine } : {}),
      vars: {
        ...(await workerSecrets(dir)),
        ALLOWED_HOSTS: allowedHosts.join(),
        CORS_ORIGINS: corsOrigins.join(),
        COMMENT_EVERY_MS: String(COMMENT_EVERY_MS),
        ...(publicUrl === undefined ? {} : { PUBLIC_URL: publicUrl }),
        ...(blockedMs === undefined ? {} : { BLOCKED_MS: String(blockedMs) }),
        ...(keep ? { KEEP_DAYS: String(keep.ageMs / DAY_MS), KEEP_BYTES: String(keep.bytes) } : {}),
        ...vars,
      },
    }
    await writeFile(options.bundle, await (bundle === undefined ? ourBundle() : readFile(bundle)))
    let workerd = await startWorkerd(options)
    const restart = async () => {
      workerd = await workerd.restart()
    }
    return {
      url: workerd.url,
      keys,
      restart,
      // An object sweeps when it wakes, and its runner wakes it.
      prune: restart,
      kill: () => workerd.kill(),
      cron: () => workerd.cron('*/15 * * * *'),
      stateDir: options.dir,
      abortObjects: () => workerd.abort(),
      evictRunner: (id, how) => workerd.evict('RunnerDO', id, how),
      evictPool: (tenant, pool) => workerd.evict('PoolDO', `${tenant}/${pool}`, 'close'),
      async close() {
        await workerd.kill()
        await rm(dir, { recursive: true, force: true, maxRetries: 3 })
      },
    }
  },
}
