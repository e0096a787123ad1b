/** A treasury on a database of its own, with a clock that stands still, a runner, and providers whose keys are really sealed. */
import { eq } from 'drizzle-orm'
import { compactDecrypt, exportJWK, generateKeyPair } from 'jose'
import { providers, runners, runs, tenants } from '../../drizzle/schema.ts'
import type { Grant, Grants, ProviderReport } from '../../shared/grants.ts'
import type { Routing } from '../../shared/tenant-settings.ts'
import { newKeyRing, openVault, type KeyRing } from '../../router/guard/vault.ts'
import { openDatabase, type Database } from '../../router/node/database.ts'
import type { Dispatch, Log, Payee, Platform } from '../../router/ports.ts'
import { sealKey } from '../../router/providers/keys.ts'
import { treasuryOf, type ClosableTreasury } from '../../router/providers/treasury.ts'
import { readHealth, type HealthRow } from '../../router/store/provider-health.ts'
import type { ProviderRow } from '../../router/store/providers.ts'
import { catalogMemory, catalogOf } from '../../router/tenancy/catalog.ts'
import { openLog } from './log.ts'

export const TENANT = 'default'
export const RUNNER = 'rnr_00000000000000000000000000000001'

export interface TreasuryRig {
  readonly database: Database
  readonly path: string
  readonly ring: KeyRing
  readonly treasury: ClosableTreasury
  now: number
  /** Everything that was logged. */
  readonly logged: string[]
  /** The database of another replica, with its own memory. */
  replica(): Promise<ClosableTreasury>
  /** A provider with the key `key-of-<id>`. */
  provider(id: string, more?: Partial<ProviderRow>): Promise<ProviderRow>
  routing(routing: Partial<Routing>): Promise<void>
  /** The row of a new run, and what it would be offered with. */
  run(more?: { session?: string; mode?: 'new' | 'resume'; model?: string }): Promise<Dispatch>
  /** Offered, and begun unless it was refused. */
  grants(d: Dispatch, treasury?: ClosableTreasury): Promise<Grants | undefined>
  /** Offered to a machine like this. */
  offer(d: Dispatch, payee?: Partial<Payee>, treasury?: ClosableTreasury): Promise<Grants | undefined>
  /** Of a new run of a new session: who would be asked, in order. */
  line(): Promise<string[]>
  /** A good answer begins before it ends. */
  report(d: Dispatch, provider: string, outcome: ProviderReport['outcome'], more?: Partial<ProviderReport>, treasury?: ClosableTreasury): Promise<void>
  health(provider: string, model?: string): Promise<HealthRow | undefined>
  healthRows(): Promise<HealthRow[]>
  /** What the runner makes of a sealed key. */
  unseal(grant: Grant | undefined): Promise<{ key: string; header: Record<string, unknown> }>
  close(): Promise<void>
}

export async function openTreasury(): Promise<TreasuryRig> {
  const files = await openLog()
  const { database } = files
  const ring = newKeyRing('first')
  const vault = await openVault(ring)
  const { publicKey, privateKey } = await generateKeyPair('ECDH-ES', { crv: 'P-256', extractable: true })
  const opened: Database[] = [database]
  const treasuries: ClosableTreasury[] = []
  const logged: string[] = []
  const say = (fields: object, message: string) => void logged.push(`${message} ${JSON.stringify(fields)}`)
  const log: Log = { info: say, warn: say, error: say }
  let count = 0

  const make = (on: Database): ClosableTreasury => {
    const memory = catalogMemory()
    const platform: Platform = {
      now: () => rig.now,
      id: () => String(++count).padStart(32, '0'),
      random: () => 0.5,
      background: (work) => void work.catch((error: unknown) => say({ error: String(error) }, 'background')),
      vitals: () => ({ uptimeS: 0, memory: { rss: 0, heapTotal: 0, heapUsed: 0, external: 0, arrayBuffers: 0 } }),
    }
    const treasury = treasuryOf({ store: () => on, catalog: () => catalogOf(on.db, memory, () => rig.now), vault: () => vault, platform, log })
    treasuries.push(treasury)
    return treasury
  }
  const rig: TreasuryRig = {
    database,
    path: files.path,
    ring,
    now: 1_000_000,
    logged,
    treasury: undefined as never,
    async replica() {
      const other = await openDatabase(files.path)
      opened.push(other)
      return make(other)
    },
    async provider(id, more = {}) {
      const place = { tenant: TENANT, version: 1, ...more, id }
      const sealed = more.baseUrl === null ? { sealedKey: null, sealedBy: null, keyTail: null, keyPrint: null } : await sealKey(vault, place, `key-of-${id}`)
      const row: ProviderRow = {
        ...place,
        name: id,
        baseUrl: `https://${id}.example.com`,
        ...sealed,
        env: {},
        models: null,
        modelMap: {},
        prices: null,
        weight: 1,
        enabled: true,
        pools: null,
        createdAt: 1,
        updatedAt: 1,
        ...more,
      }
      await database.db.insert(providers).values(row)
      rig.now += 10_000
      return row
    },
    async routing(routing) {
      await database.db.insert(tenants).values({ id: TENANT, settings: { routing }, createdAt: 1 }).onConflictDoUpdate({ target: tenants.id, set: { settings: { routing } } })
      rig.now += 10_000
    },
    async run({ session, mode = 'new', model } = {}) {
      const id = `run_${String(++count).padStart(32, '0')}`
      const its = session ?? `00000000-0000-4000-8000-${String(count).padStart(12, '0')}`
      const wanted = { tenant: TENANT, session: its, pool: 'default', fence: 1 }
      // One turn of a session at a time.
      await database.db.update(runs).set({ state: 'succeeded', endedAt: 1 }).where(eq(runs.session, its))
      await database.db.insert(runs).values({
        id,
        ...wanted,
        runner: RUNNER,
        state: 'leased',
        createdAt: 1,
        subject: 'test',
        token: 'jti',
        needs: {},
        labels: {},
        priority: 5,
        queueUntil: 0,
        timeoutS: 60,
      })
      const spec = { tenant: TENANT, session: { mode, id: its }, prompt: 'hello', timeout_s: 60, ...(model === undefined ? {} : { model }) }
      return { run: id, tenant: TENANT, runner: RUNNER, fence: 1, spec }
    },
    async offer(d, payee = {}, treasury = rig.treasury) {
      const grants = await treasury.grants(d, { runner: RUNNER, tenant: TENANT, pool: 'default', provider: 'local', ...payee })
      await treasury.settled()
      return grants
    },
    async grants(d, treasury = rig.treasury) {
      const grants = await rig.offer(d, {}, treasury)
      treasury.begun(d)
      await treasury.settled()
      return grants
    },
    async line() {
      const grants = await rig.grants(await rig.run())
      return grants?.providers.map((p) => p.provider) ?? []
    },
    async report(d, provider, outcome, more = {}, treasury = rig.treasury) {
      const report: ProviderReport = {
        run: d.run,
        fence: d.fence,
        stage: 'end',
        provider,
        version: 1,
        outcome,
        model: 'some-model',
        status: null,
        retry_after_ms: null,
        latency_ms: null,
        tokens: null,
        ...more,
      }
      if (outcome === 'ok' && more.stage === undefined) treasury.report(d.tenant, { ...report, stage: 'headers' })
      treasury.report(d.tenant, report)
      await treasury.settled()
    },
    async health(provider, model = '') {
      return (await rig.healthRows()).find((row) => row.provider === provider && row.model === model)
    },
    healthRows: () => readHealth(database.db, TENANT),
    async unseal(grant) {
      const { plaintext, protectedHeader } = await compactDecrypt(grant?.api?.sealed_key ?? '', privateKey)
      return { key: new TextDecoder().decode(plaintext), header: { ...protectedHeader } }
    },
    async close() {
      for (const treasury of treasuries) await treasury.settled()
      for (const other of opened.slice(1)) await other.close()
      await files.close()
    },
  }
  Object.assign(rig, { treasury: make(database) })
  await database.db.insert(runners).values({
    id: RUNNER,
    tenant: TENANT,
    pool: 'default',
    name: 'r',
    labels: {},
    createdAt: 1,
    signingJwk: {},
    sealingJwk: { ...(await exportJWK(publicKey)) },
  })
  return rig
}
