/**
 * What a config file may say, and how it becomes the state of the database. It seeds: what it does not name is left alone,
 * and what it names is changed the way the admin API would, with the same checks and an audit row.
 *
 * Where the file is, when it is read and where a key comes from is the host's business.
 */
import { z } from '@hono/zod-openapi'
import { Fault } from '../../shared/faults.ts'
import { TenantId } from '../../shared/ids.ts'
import { Routing, TenantLimits, type TenantSettings } from '../../shared/tenant-settings.ts'
import { OPERATOR_TENANT } from '../guard/operator.ts'
import { FILE_ACTOR } from '../store/audit.ts'
import { findProvider } from '../store/providers.ts'
import { changeTenant, haveTenant } from '../store/tenant-pages.ts'
import { RetentionSettings } from '../store/session-retention.ts'
import { readTenant } from '../store/tenants.ts'
import { applyCompat, FileCompat } from './apply-compat.ts'
import { applyIssuer } from './apply-issuer.ts'
import { changeProvider, createProvider } from './apply-provider.ts'
import { changeRetention } from './apply-retention.ts'
import { changeSettings } from './apply-settings.ts'
import { commit, type ChangeDeps } from './change.ts'
import { NewIssuer } from './issuers.ts'
import { ApiKey, checkParts, ProviderParts } from './provider-schemas.ts'

const FileTenant = z.strictObject({
  name: z.string().min(1).max(128).optional(),
  limits: TenantLimits.optional(),
  routing: Routing.partial().optional(),
})
/** A key is in the file, in another file, or in the environment of the router. */
const FileProvider = ProviderParts.extend({
  tenant: TenantId.default(OPERATOR_TENANT),
  api_key_file: z.string().min(1).max(4_096).optional(),
  api_key_env: z
    .string()
    .regex(/^[A-Za-z_][A-Za-z0-9_]*$/, 'is not the name of an environment variable')
    .optional(),
}).superRefine((provider, ctx) => {
  const ways = ['api_key', 'api_key_file', 'api_key_env'] as const
  const [way, second] = ways.filter((name) => provider[name] !== undefined)
  if (second !== undefined)
    ctx.addIssue({ code: 'custom', path: [second], message: `is one way too many to give the key; there is ${way} already` })
  checkParts({ ...provider, api_key: way && provider[way] }, ctx)
})

/** `router.toml`, or the same as JSON. */
export const ConfigFile = z.strictObject({
  providers: z
    .array(FileProvider)
    .max(256)
    .superRefine((list, ctx) => {
      const ids = list.map(({ tenant, id }) => `${tenant}/${id}`)
      ids.forEach((id, i) => ids.indexOf(id) < i && ctx.addIssue({ code: 'custom', path: [i, 'id'], message: 'is there twice' }))
    })
    .default([]),
  tenants: z.record(TenantId, FileTenant).default({}),
  issuers: z
    .array(NewIssuer.extend({ tenant: TenantId.default(OPERATOR_TENANT) }))
    .max(64)
    .default([]),
  compat: FileCompat.optional(),
  retention: RetentionSettings.optional(),
})
export type ConfigFile = z.infer<typeof ConfigFile>
export type FileProvider = ConfigFile['providers'][number]

export const FileApiKey = ApiKey

/** What applying a config did. */
export interface ConfigReport {
  /** Such as `provider/main: created`. */
  readonly changes: readonly string[]
  readonly warnings: readonly string[]
}

/** The file says something that cannot be followed. Shown to whoever may reload it: names the file and the key, no value. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError'
}

/**
 * `keyOf` has every key that a provider names another place for. Throws a `ConfigError` at the first thing that is refused;
 * what came before it is done.
 */
export async function applyConfig(
  deps: ChangeDeps,
  config: ConfigFile,
  keyOf: ReadonlyMap<FileProvider, string>,
): Promise<ConfigReport> {
  const changes: string[] = []
  const warnings: string[] = []
  for (const [tenant, settings] of Object.entries(config.tenants)) {
    changes.push(...(await applyTenant(deps, tenant, settings)))
  }
  const { compat } = config
  // Behind the tenants, as it may name one of them.
  if (compat) changes.push(...(await named('compat', applyCompat(deps, FILE_ACTOR, compat))).map((family) => `compat/${family}: changed`))
  const { retention } = config
  if (retention && (await changeRetention(deps, FILE_ACTOR, retention))) changes.push('retention: changed')
  for (const issuer of config.issuers) {
    const name = `issuer/${issuer.id}`
    const did = await named(name, applyIssuer(deps, FILE_ACTOR, issuer))
    if (did !== undefined) changes.push(`${name}: ${did}`)
  }
  for (const provider of config.providers) {
    const name = `provider/${provider.id}${provider.tenant === OPERATOR_TENANT ? '' : ` of ${provider.tenant}`}`
    const { did, warned } = await named(name, applyProvider(deps, provider, keyOf.get(provider)))
    if (did !== undefined) changes.push(`${name}: ${did}`)
    warnings.push(...warned.map((warning) => `${name}: ${warning}`))
  }
  return { changes, warnings }
}

async function named<T>(name: string, work: Promise<T>): Promise<T> {
  try {
    return await work
  } catch (error) {
    throw error instanceof Fault ? new ConfigError(`${name}: ${error.message}`, { cause: error }) : error
  }
}

async function applyTenant(deps: ChangeDeps, tenant: string, { name, ...parts }: z.infer<typeof FileTenant>): Promise<string[]> {
  const { store, platform } = deps
  const before = await readTenant(store.db, tenant)
  const did: string[] = []
  if (!before || (name !== undefined && name !== before.name)) {
    const statements = [
      haveTenant(store.db, tenant, platform.now()),
      ...(name === undefined ? [] : [changeTenant(store.db, tenant, { name })]),
    ]
    const action = before ? 'tenant.update' : 'tenant.create'
    await commit(deps, FILE_ACTOR, statements, {
      tenant,
      action,
      target: `tenant/${tenant}`,
      ...(before ? { before: { name: before.name } } : {}),
      after: { name: name ?? null },
    })
    did.push(`tenant/${tenant}: ${before ? 'renamed' : 'created'}`)
  }
  for (const part of ['limits', 'routing'] as const) {
    const value: TenantSettings[typeof part] = parts[part]
    if (value !== undefined && (await changeSettings(deps, FILE_ACTOR, tenant, part, value)))
      did.push(`tenant/${tenant}: ${part} set`)
  }
  return did
}

async function applyProvider(
  deps: ChangeDeps,
  { tenant, api_key_file: _file, api_key_env: _env, ...wish }: FileProvider,
  key: string | undefined,
): Promise<{ did: string | undefined; warned: readonly string[] }> {
  const apiKey = key ?? wish.api_key
  const was = await findProvider(deps.store.db, tenant, wish.id)
  if (!was) {
    const { warnings } = await createProvider(deps, FILE_ACTOR, tenant, {
      ...wish,
      ...(apiKey === undefined ? {} : { api_key: apiKey }),
    })
    return { did: 'created', warned: warnings }
  }
  const { id: _id, ...patch } = wish
  const { changed, warnings } = await changeProvider(deps, FILE_ACTOR, was, {
    ...patch,
    ...(apiKey === undefined ? {} : { api_key: apiKey }),
  })
  return { did: changed ? 'changed' : undefined, warned: warnings }
}
