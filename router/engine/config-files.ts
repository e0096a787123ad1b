/**
 * Config files of a pool, for every dialect: what may be in them is looked at here, before anything is kept, and the
 * runners that are connected are told. That each run finds what was put before it is the hub's promise, not this one's.
 */
import { configRefusal, descriptionOf } from '../../shared/config-content.ts'
import { MAX_CONFIG_CHARS, MAX_CONFIG_FILES, type ConfigFile, type ConfigKind } from '../../shared/config-files.ts'
import { Fault } from '../../shared/faults.ts'
import { refusePool } from '../guard/narrow.ts'
import type { Deps, Principal } from '../ports.ts'
import {
  countConfigFiles,
  findConfigFile,
  MAX_CONFIG_POOLS,
  pageOfConfigFiles,
  removeConfigFile,
  writeConfigFile,
  type ConfigAuthor,
  type ConfigRow,
  type FileRef,
} from '../store/config-files.ts'

export type ConfigDeps = Pick<Deps, 'store' | 'platform' | 'hub' | 'log'>

/** Who asks. Each change is a row of the audit, in the same commit. */
export type ConfigWriter = Pick<Principal, 'tenant' | 'subject' | 'jti' | 'narrowing'> & { readonly requestId?: string }

export interface ConfigEntry {
  readonly name: string
  /** The line `description:` of its front matter. */
  readonly description: string | null
  /** Another one after every change; never the same for two contents. */
  readonly version: number
  readonly chars: number
  /** Milliseconds since 1970. */
  readonly updated_at: number
}

export interface ConfigPage {
  readonly items: ConfigEntry[]
  readonly total: number
}

/** By name. `name` is empty for `claude-md`, of which there is one. */
export async function listConfigFiles(
  { store }: Pick<ConfigDeps, 'store'>,
  tenant: string,
  pool: string,
  kind: ConfigKind,
  { limit, offset }: { limit: number; offset: number },
): Promise<ConfigPage> {
  const [rows, { files }] = await Promise.all([
    pageOfConfigFiles(store.db, { tenant, pool }, kind, limit, offset),
    countConfigFiles(store.db, { tenant, pool }, kind),
  ])
  const items = rows.map(({ name, version, updatedAt, chars, head }) => ({
    name,
    description: descriptionOf(head),
    version,
    chars,
    updated_at: updatedAt,
  }))
  return { items, total: files }
}

export function readConfigFile(
  { store }: Pick<ConfigDeps, 'store'>,
  tenant: string,
  pool: string,
  kind: ConfigKind,
  name: string,
): Promise<ConfigRow | undefined> {
  return findConfigFile(store.db, { tenant, pool, kind, name })
}

/** Throws what `replaceConfigFile` throws. */
export async function putConfigFile(
  deps: ConfigDeps,
  who: ConfigWriter,
  pool: string,
  kind: ConfigKind,
  name: string,
  content: string,
): Promise<'created' | 'updated'> {
  return (await replaceConfigFile(deps, who, { pool, kind, name, content })).outcome
}

/**
 * `at`: only if that is the version that is there. Throws `forbidden` for a pool that the token is not good for,
 * `invalid_request` for a content that would be more than instructions, `too_large` and `conflict`, which name the limit.
 */
export async function replaceConfigFile(
  deps: ConfigDeps,
  who: ConfigWriter,
  { pool, at, ...file }: ConfigFile & { readonly pool: string; readonly at?: number | undefined },
): Promise<{ outcome: 'created' | 'updated'; version: number }> {
  refusePool(who.narrowing, pool)
  const refused = configRefusal(file)
  if (refused !== undefined) throw new Fault('invalid_request', `content: ${refused}`.slice(0, 512), { extra: { field: 'content' } })
  const { kind, name, content } = file
  const ref = { tenant: who.tenant, pool, kind, name }
  const written = await writeConfigFile(deps.store, ref, { content, by: authorOf(deps, who), at, now: deps.platform.now() })
  if (!written) throw await noRoom(deps, ref, at)
  tell(deps, ref)
  return { outcome: written.created ? 'created' : 'updated', version: written.version }
}

/** False: it is not there. Throws `forbidden`, and `conflict` where it is, but not at the version `at`. */
export async function deleteConfigFile(
  deps: ConfigDeps,
  who: ConfigWriter,
  pool: string,
  kind: ConfigKind,
  name: string,
  at?: number,
): Promise<boolean> {
  refusePool(who.narrowing, pool)
  const ref = { tenant: who.tenant, pool, kind, name }
  if ((await removeConfigFile(deps.store, ref, { by: authorOf(deps, who), at, now: deps.platform.now() })) === undefined) {
    if (at !== undefined && (await findConfigFile(deps.store.db, ref))) throw changed(ref)
    return false
  }
  tell(deps, ref)
  return true
}

function authorOf({ platform }: ConfigDeps, { subject, jti, requestId }: ConfigWriter): ConfigAuthor {
  return { subject, jti, requestId, auditId: platform.id() }
}

/** In words, as `rules/style`. */
const nameOf = ({ kind, name }: FileRef): string => (name === '' ? kind : `${kind}/${name}`)

const changed = (ref: FileRef): Fault => new Fault('conflict', `${nameOf(ref)} was changed meanwhile`)

async function noRoom({ store }: ConfigDeps, ref: FileRef, at: number | undefined): Promise<Fault> {
  if (at !== undefined && (await findConfigFile(store.db, ref))?.version !== at) return changed(ref)
  const { files, chars } = await countConfigFiles(store.db, ref)
  if (files >= MAX_CONFIG_FILES) return new Fault('conflict', `pool ${ref.pool} has ${files} files of at most ${MAX_CONFIG_FILES}`)
  if (chars > 0) return new Fault('too_large', `pool ${ref.pool} has ${chars} of at most ${MAX_CONFIG_CHARS} characters in its files`)
  return new Fault('conflict', `there are files for ${MAX_CONFIG_POOLS} pools, which is as many as can be`)
}

/** So that it is there before anybody runs; a runner that does not hear of it now does with its next run. */
function tell({ hub, platform }: ConfigDeps, { tenant, pool }: FileRef): void {
  platform.background(hub.configChanged(tenant, pool))
}
