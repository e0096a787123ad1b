/**
 * The files that a pool's runners are to have. Each change raises the version of its set in the same batch, and what there
 * is room for is decided by the statement that writes.
 */
import { and, asc, eq, sql, type SQL } from 'drizzle-orm'
import { audit, configFiles, configSets } from '../../drizzle/schema.ts'
import { MAX_CONFIG_CHARS, MAX_CONFIG_FILES, type ConfigFile, type ConfigKind } from '../../shared/config-files.ts'
import type { Db, Statement, Store } from '../ports.ts'

/** A slip of the pen in the name of a pool must not go on for ever. */
export const MAX_CONFIG_POOLS = 100
/** The front matter of a file that is meant to have any is shorter. */
const HEAD_CHARS = 4_096

export interface PoolRef {
  readonly tenant: string
  readonly pool: string
}
export type FileRef = PoolRef & Pick<ConfigFile, 'kind' | 'name'>
export type ConfigRow = typeof configFiles.$inferSelect
/** `content`: only its beginning. */
export type ConfigHead = Pick<ConfigRow, 'name' | 'version' | 'updatedAt'> & { readonly head: string; readonly chars: number }

export async function findConfigFile(db: Db, ref: FileRef): Promise<ConfigRow | undefined> {
  const [row] = await db.select().from(configFiles).where(its(ref)).limit(1)
  return row
}

/** By name. */
export function pageOfConfigFiles(db: Db, { tenant, pool }: PoolRef, kind: ConfigKind, limit: number, offset: number): Promise<ConfigHead[]> {
  return db
    .select({
      name: configFiles.name,
      version: configFiles.version,
      updatedAt: configFiles.updatedAt,
      head: sql<string>`substr(${configFiles.content}, 1, ${HEAD_CHARS})`,
      chars: sql<number>`length(${configFiles.content})`,
    })
    .from(configFiles)
    .where(and(eq(configFiles.tenant, tenant), eq(configFiles.pool, pool), eq(configFiles.kind, kind)))
    .orderBy(asc(configFiles.name))
    .limit(limit)
    .offset(offset)
}

export async function countConfigFiles(db: Db, { tenant, pool }: PoolRef, kind?: ConfigKind): Promise<{ files: number; chars: number }> {
  const [row] = await db
    .select({ files: sql<number>`count(*)`, chars: sql<number>`coalesce(sum(length(${configFiles.content})), 0)` })
    .from(configFiles)
    .where(
      and(eq(configFiles.tenant, tenant), eq(configFiles.pool, pool), kind === undefined ? undefined : eq(configFiles.kind, kind)),
    )
  return row ?? { files: 0, chars: 0 }
}

/** 0: nothing was ever put there. */
export async function configVersion(db: Db, { tenant, pool }: PoolRef): Promise<number> {
  const [row] = await db
    .select({ version: configSets.version })
    .from(configSets)
    .where(and(eq(configSets.tenant, tenant), eq(configSets.pool, pool)))
    .limit(1)
  return row?.version ?? 0
}

/** Who makes a change, for the audit. */
export interface ConfigAuthor {
  readonly subject: string
  readonly jti: string
  readonly requestId?: string | undefined
  /** Of the row. */
  readonly auditId: string
}

/** All of them and the version that they are, in one transaction. */
export async function readConfigSet(store: Store, { tenant, pool }: PoolRef): Promise<{ version: number; files: ConfigFile[] }> {
  const { db } = store
  const [versions, files] = (await store.batch([
    db
      .select({ version: configSets.version })
      .from(configSets)
      .where(and(eq(configSets.tenant, tenant), eq(configSets.pool, pool))),
    db
      .select({ kind: configFiles.kind, name: configFiles.name, content: configFiles.content })
      .from(configFiles)
      .where(and(eq(configFiles.tenant, tenant), eq(configFiles.pool, pool)))
      .orderBy(asc(configFiles.kind), asc(configFiles.name)),
  ] as Statement[])) as [{ version: number }[], ConfigFile[]]
  return { version: versions[0]?.version ?? 0, files }
}

/**
 * Puts one in place of what was there. Undefined: there is no room, or it is not (any more) the version `at` that was
 * there, and nothing was changed.
 */
export async function writeConfigFile(
  store: Store,
  ref: FileRef,
  { content, by, at, now }: { content: string; by: ConfigAuthor; at: number | undefined; now: number },
): Promise<{ created: boolean; version: number } | undefined> {
  const { db } = store
  const { tenant, pool, kind, name } = ref
  const others = sql`tenant = ${tenant} AND pool = ${pool} AND NOT (kind = ${kind} AND name = ${name})`
  const next = sql`coalesce((SELECT version FROM ${configSets} WHERE tenant = ${tenant} AND pool = ${pool}), 0) + 1`
  const poolsLeft = sql`(
    EXISTS (SELECT 1 FROM ${configSets} WHERE tenant = ${tenant} AND pool = ${pool})
    OR (SELECT count(*) FROM ${configSets} WHERE tenant = ${tenant}) < ${MAX_CONFIG_POOLS})`
  const unchanged = at === undefined ? sql`1` : sql`EXISTS (SELECT 1 FROM ${configFiles} WHERE ${its(ref)} AND version = ${at})`
  const [before, written] = (await store.batch([
    db.select({ version: configFiles.version }).from(configFiles).where(its(ref)),
    db.all(sql`
      INSERT INTO ${configFiles} (tenant, pool, kind, name, content, version, updated_by, created_at, updated_at)
      SELECT ${tenant}, ${pool}, ${kind}, ${name}, ${content}, ${next}, ${by.subject}, ${now}, ${now}
      WHERE (SELECT count(*) FROM ${configFiles} WHERE ${others}) < ${MAX_CONFIG_FILES}
        AND (SELECT coalesce(sum(length(content)), 0) FROM ${configFiles} WHERE ${others}) + length(${content}) <= ${MAX_CONFIG_CHARS}
        AND ${poolsLeft} AND ${unchanged}
      ON CONFLICT (tenant, pool, kind, name) DO UPDATE
        SET content = excluded.content, version = excluded.version, updated_by = excluded.updated_by, updated_at = excluded.updated_at
      RETURNING version`),
    // Its version is ahead of the set's only if it was written just now.
    auditOf(db, ref, by, { action: 'config_file.put', now, column: 'after', where: sql`${its(ref)} AND version = ${next}` }),
    // To the version that the file has just got, or nowhere.
    db.run(sql`
      INSERT INTO ${configSets} (tenant, pool, version)
      SELECT tenant, pool, max(version) FROM ${configFiles} WHERE tenant = ${tenant} AND pool = ${pool} GROUP BY tenant, pool
      ON CONFLICT (tenant, pool) DO UPDATE SET version = max(version, excluded.version)`),
  ] as Statement[])) as [unknown[], unknown[]]
  const [row] = written
  if (row === undefined) return undefined
  return { created: before.length === 0, version: versionIn(row) }
}

/** The version without it; undefined: it is not there, or not (any more) as it was at the version `at`. */
export async function removeConfigFile(
  store: Store,
  ref: FileRef,
  { by, at, now }: { by: ConfigAuthor; at: number | undefined; now: number },
): Promise<number | undefined> {
  const { db } = store
  const { tenant, pool } = ref
  const there = and(its(ref), at === undefined ? undefined : eq(configFiles.version, at))!
  const [raised] = (await store.batch([
    db
      .update(configSets)
      .set({ version: sql`version + 1` })
      .where(and(eq(configSets.tenant, tenant), eq(configSets.pool, pool), sql`EXISTS (SELECT 1 FROM ${configFiles} WHERE ${there})`))
      .returning({ version: configSets.version }),
    auditOf(db, ref, by, { action: 'config_file.delete', now, column: 'before', where: there }),
    db.delete(configFiles).where(there),
  ] as Statement[])) as [{ version: number }[]]
  return raised[0]?.version
}

type Noted = { action: string; now: number; column: 'before' | 'after'; where: SQL }

/** What the file is or was, without its content, if it is where the change has it. */
function auditOf(db: Db, { tenant, pool, kind, name }: FileRef, by: ConfigAuthor, { action, now, column, where }: Noted): Statement {
  const target = `config/${pool}/${name === '' ? kind : `${kind}.${name}`}`
  return db.run(sql`
    INSERT INTO ${audit} (id, at, tenant, actor, jti, action, target, ${sql.identifier(column)}, request_id)
    SELECT ${by.auditId}, ${now}, ${tenant}, ${by.subject}, ${by.jti}, ${action}, ${target},
      json_object('version', version, 'chars', length(content)), ${by.requestId ?? null}
    FROM ${configFiles} WHERE ${where}`)
}

function its({ tenant, pool, kind, name }: FileRef): SQL {
  return and(eq(configFiles.tenant, tenant), eq(configFiles.pool, pool), eq(configFiles.kind, kind), eq(configFiles.name, name))!
}

/** A raw statement answers rows by name or by place, as the driver likes. */
function versionIn(row: unknown): number {
  if (Array.isArray(row)) return Number(row[0])
  return Number((row as { version: unknown }).version)
}
