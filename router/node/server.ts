/**
 * The router as a Node process: one port for HTTP and the runners' sockets, everything else from the data directory.
 */
import { createHash } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import { isIP, type AddressInfo } from 'node:net'
import { networkInterfaces } from 'node:os'
import { join } from 'node:path'
import { uuidv7 } from 'uuidv7'
import { CLOSE } from '../../shared/frames.ts'
import { createApp } from '../app.ts'
import { cancelRun } from '../engine/cancel.ts'
import { resealSecrets, tidy } from '../engine/housekeeping.ts'
import { identityMemory, identityOf } from '../guard/identity.ts'
import { Attendance } from '../hub/attendance.ts'
import { configSource } from '../hub/config-sync.ts'
import { GroupCommitLog, sqlCommit } from '../hub/event-log.ts'
import { Retention, type Keep } from '../hub/retention.ts'
import { Touches } from '../hub/touches.ts'
import { BlockLimiter } from '../limits/block-limiter.ts'
import { localLimiter } from '../limits/local-limiter.ts'
import { Line } from '../line/line.ts'
import type { Deps, Log, Platform, RouterSettings } from '../ports.ts'
import { treasuryOf } from '../providers/treasury.ts'
import { hubStore } from '../store/hub-store.ts'
import { endingStatements } from '../store/notices.ts'
import { storeRecords } from '../store/records.ts'
import { findRunner, markedRunners } from '../store/runners.ts'
import { catalogMemory, catalogOf } from '../tenancy/catalog.ts'
import { findRun, reviveQueue, runnersWithLiveRuns, turnsUnderWay, unwatchedRuns } from '../store/runs.ts'
import { Outbox } from '../webhooks/outbox.ts'
import { acceptRunner } from './accept-runner.ts'
import { assetsOf } from './assets.ts'
import { watchConfig } from './config-source.ts'
import { loadKeys, lockDir, makePrivateDir } from './data-dir.ts'
import { openDatabase } from './database.ts'
import { NodeHub } from './hub.ts'
import { Journal, weigh } from './journal/journal.ts'
import { recover } from './journal/recover.ts'
import { listen } from './listen.ts'
import { followVault } from './master-key.ts'
import { driveOutbox } from './outbox.ts'
import { webhookDialler } from './webhook-dial.ts'

/** Runners of a stopping router come back spread over this time. */
const GOAWAY_SPREAD_MS: [number, number] = [0, 1_000]
const LINE_TICK_MS = 250
/** A runner that was revoked is let go within 5 s. */
const STANDING_MS = 2_000
const SWEEP_MS = 60_000
const WEBHOOKS_AT_ONCE = { here: 32, perTenant: 16, perHost: 8 }
const KEEP: Keep = { ageMs: 30 * 86_400_000, bytes: 10 * 1024 ** 3 }

export interface RouterOptions {
  readonly dataDir: string
  /** The database file, in the data directory unless it is somewhere else. */
  readonly database?: string | undefined
  readonly host: string
  /** 0: any. */
  readonly port: number
  readonly publicUrl?: string | undefined
  readonly allowedHosts: readonly string[]
  readonly corsOrigins: readonly string[]
  readonly timeoutS: number
  /** What is kept of runs that have ended; 30 days and 10 GiB unless told otherwise. */
  readonly keep?: Keep | undefined
  /** A subscriber that takes nothing for so long is let go. */
  readonly blockedMs?: number | undefined
  /** The file that seeds the settings. `required`: it has to be there. */
  readonly configFile?: { readonly path: string; readonly required: boolean } | undefined
  readonly log: Log
}

export interface RunningRouter {
  readonly url: string
  readonly deps: Deps
  /** Streams end without `done`, runners are told to come back, runs go on. Resolves when the port is free. */
  close(): Promise<void>
}

export async function startRouter(options: RouterOptions): Promise<RunningRouter> {
  const { dataDir, host, port, log } = options
  await makePrivateDir(dataDir)
  const unlock = await lockDir(dataDir, 'router')
  try {
    const root = await loadKeys(dataDir)
    const database = await openDatabase(options.database ?? join(dataDir, 'runyard.db'))
    const platform = nodePlatform(log)
    const reseal = () => resealSecrets({ store: database, vault, log })
    const following = await followVault({ dataDir, log, turned: () => reseal() })
    const { vault } = following
    await reseal()
    const catalog = catalogOf(database.db, catalogMemory(), () => performance.now())
    const { keys, identity } = identityOf({ db: database.db, vault, root, platform, log, memory: identityMemory(), now: () => performance.now(), digest: sha256 })
    const treasury = treasuryOf({ store: () => database, catalog: () => catalog, vault: () => vault, platform, log })
    const limiter = new BlockLimiter({ db: database.db, platform, log, now: () => performance.now() })
    const addresses = localLimiter(() => performance.now())
    const settings: RouterSettings = {
      publicUrl: options.publicUrl,
      allowedHosts: [...options.allowedHosts.map((h) => h.toLowerCase()), ...ownNames(host)],
      corsOrigins: options.corsOrigins,
      timeoutS: options.timeoutS,
      blockedMs: options.blockedMs,
    }
    const commit = sqlCommit(database, platform, (append) => endingStatements(database.db, append, platform.now()))
    const journalParts = { dir: dataDir, db: database.db, commit, log, nextTurn }
    // One that lies elsewhere may have other routers, who would not see what is only here.
    const journal = options.database === undefined ? await Journal.open(journalParts) : undefined
    if (!journal) await recover(journalParts)
    const eventLog = journal ? new GroupCommitLog(journal.commit, nextTurn, weigh) : new GroupCommitLog(commit, nextTurn)
    const attendance = new Attendance({
      async patienceMs({ tenant, run }) {
        const row = await findRun(database.db, tenant, run)
        return row && row.endedAt === null && row.onDisconnectMs !== null ? row.onDisconnectMs : undefined
      },
      abandoned: async (ref) => void (await cancelRun(deps, ref)),
      failed: (error) => log.error({ err: error }, 'a run that nobody watches could not be ended'),
    })
    const hub = new NodeHub({ store: hubStore(database, journal?.reads), eventLog, treasury, config: configSource(() => database), platform, log, attendance, accept: acceptRunner(() => deps) })
    const line = new Line({ store: database, fleet: hub, platform, log, now: () => performance.now(), nextTurn })
    hub.onCapacity = () => line.kick()
    hub.onTurnOver = (run) => {
      line.turnOver(run)
      outbox.nudge()
    }
    hub.onRequeued = (row) => line.comeBack(row)
    const touches = new Touches(database, platform)
    hub.onPresence = (seat) => touches.add(seat.who.runner, seat.hint)
    const retention = new Retention({ store: database, platform, log, keep: options.keep ?? KEEP, watched: (run) => attendance.watched(run), clock: () => performance.now() })
    const records = storeRecords(database, journal?.reads)
    const dialler = webhookDialler()
    const sending = new Outbox({
      store: () => database,
      records: () => records,
      vault: () => vault,
      platform,
      log,
      post: dialler.post,
      most: WEBHOOKS_AT_ONCE,
      freed: () => outbox.nudge(),
    })
    const outbox = driveOutbox(sending, () => platform.now(), log)
    const config = options.configFile && watchConfig({ file: options.configFile.path, required: options.configFile.required, deps: () => deps, env: process.env })
    const deps: Deps = { store: database, hub, line, records, platform, keys, identity, vault, catalog, limiter, addresses, settings, log, config, outbox, assets: assetsOf() }

    for (const id of await runnersWithLiveRuns(database.db)) {
      const row = await findRunner(database.db, id)
      if (row) await hub.expect({ runner: row.id, tenant: row.tenant, pool: row.pool })
    }

    attendance.restarted(await unwatchedRuns(database.db))

    const app = createApp(() => deps)
    await config?.start()
    // Before anybody can post: what is offered from here on is of this process.
    line.revive(await reviveQueue(database.db), await turnsUnderWay(database.db))
    const lineTicker = setInterval(() => line.tick(), LINE_TICK_MS)
    const standingTicker = setInterval(() => platform.background(markedRunners(database.db, platform.now()).then((marked) => hub.heed(marked))), STANDING_MS)
    const listening = await listen(app.fetch, port, host, (error) => log.error({ err: error }, 'an upgrade could not be answered'))
    const sweep = () => platform.background(tidy(database, platform.now()).then(() => retention.sweep()))
    sweep()
    const sweeper = setInterval(sweep, SWEEP_MS)
    const { address } = listening
    const url = `http://${urlHost(host, address)}:${address.port}`

    return {
      url,
      deps,
      async close() {
        for (const socket of hub.sockets()) {
          socket.send({ t: 'goaway', reason: 'the router is stopping', after_ms: GOAWAY_SPREAD_MS })
          socket.close(CLOSE.restart, 'the router is stopping')
        }
        await config?.close()
        clearInterval(sweeper)
        clearInterval(lineTicker)
        clearInterval(standingTicker)
        following.close()
        line.close()
        attendance.close()
        hub.close()
        await listening.close()
        await eventLog.settled()
        await touches.flush().catch((error: unknown) => log.warn({ err: error }, 'what runners are connected could not be written'))
        await journal?.close()
        await retention.close()
        await treasury.settled()
        await outbox.close()
        await dialler.close()
        await database.close()
        await unlock()
      },
    }
  } catch (error) {
    await unlock()
    throw error
  }
}

/** At once: WebCrypto's goes through the thread pool, which takes longer than the hash. */
const sha256 = (text: string) => createHash('sha256').update(text).digest('base64')

const nextTurn = () => new Promise<void>((resolve) => setImmediate(resolve))

function nodePlatform(log: Log): Platform {
  return {
    now: () => Date.now(),
    id: () => uuidv7().replaceAll('-', ''),
    random: Math.random,
    background: (work) => void work.catch((error: unknown) => log.error({ err: error }, 'work in the background failed')),
    clientIp: (c) => (c.env as { incoming?: IncomingMessage }).incoming?.socket.remoteAddress,
    vitals: () => {
      const { rss, heapTotal, heapUsed, external, arrayBuffers } = process.memoryUsage()
      return { uptimeS: process.uptime(), memory: { rss, heapTotal, heapUsed, external, arrayBuffers } }
    },
  }
}

/**
 * The IP literals we answer to when bound beyond loopback. A page cannot rebind an IP literal, so our own are safe; names are
 * for `--allow-host` and `--public-url`.
 */
function ownNames(host: string): string[] {
  if (host === '0.0.0.0' || host === '::') {
    return Object.values(networkInterfaces()).flatMap((addresses) => (addresses ?? []).map((a) => a.address.split('%')[0]!))
  }
  return [host.toLowerCase()]
}

function urlHost(host: string, address: AddressInfo): string {
  if (host === '0.0.0.0') return '127.0.0.1'
  if (host === '::') return '[::1]'
  return isIP(host) === 0 ? host : address.family === 'IPv6' ? `[${address.address}]` : address.address
}
