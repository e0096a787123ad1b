/**
 * The configuration that workerd is started with, as text: everything that wrangler.toml binds, from our own disk.
 *
 * Pure. The caller puts the files that it embeds beside it, under the names given here, and makes the disks' directories.
 * The text holds every secret among `vars`.
 */
import { isIP } from 'node:net'
import type { Wrangler } from './wrangler.ts'

/** Embedded files have to be named relative to the configuration; an absolute path is not found. */
export const WORKER_FILE = 'worker.js'
export const CONTROL_FILE = 'control.js'

/** Miniflare's emulation of D1: the name that workerd gets to see, and the file inside `miniflare/dist/src/workers`. */
export const D1_FILES = {
  'd1-entry.js': 'shared/object-entry.worker.js',
  'd1.js': 'd1/database.worker.js',
  'miniflare:shared': 'shared/index.worker.js',
  'miniflare:zod': 'shared/zod.worker.js',
} as const

/**
 * What webhooks may go to: their addresses come from tenants, so it is less than what the Worker's own requests may, unless
 * an operator has said that private addresses are good. Cloudflare has no such networks and needs none.
 */
const WEBHOOK_NETWORKS = { WEBHOOKS_PUBLIC: ['public'], WEBHOOKS_PRIVATE: ['public', 'private', 'local'] }

export interface EdgeConfig {
  /** Where HTTP is served: `127.0.0.1:8787`, `[::1]:0`. */
  readonly address: string
  /** Added to the vars of wrangler.toml; a name that is there already is replaced. Secrets belong here. */
  readonly vars: Readonly<Record<string, string>>
  /** Absolute paths of two directories. */
  readonly disks: { readonly objects: string; readonly d1: string }
  /** Absolute path of the folder of static files, if there is one. It is only read. */
  readonly assets?: string | undefined
  /** What the control worker wants to see, and whether it may import `workerd:unsafe`; then the Worker may reach this machine too. */
  readonly control: { readonly secret: string; readonly unsafe: boolean }
}

/** Whether the Worker gets D1: not when it is told of another database. */
export function usesD1(wrangler: Wrangler, vars: Readonly<Record<string, unknown>>): boolean {
  return wrangler.d1_databases.length > 0 && !({ ...wrangler.vars, ...vars })['LIBSQL_URL']
}

export function capnpConfig(wrangler: Wrangler, config: EdgeConfig): string {
  const databases = usesD1(wrangler, config.vars) ? wrangler.d1_databases : []
  const vars = { ...wrangler.vars, ...config.vars }
  const assets = wrangler.assets && config.assets !== undefined ? { binding: wrangler.assets.binding, path: config.assets } : undefined
  const classes = wrangler.migrations.flatMap((m) => m.new_sqlite_classes)
  const bindings = [
    ...Object.entries(vars).map(([name, value]) => bindVar(name, value)),
    ...wrangler.durable_objects.bindings.map(
      (b) => `(name = ${quote(b.name)}, durableObjectNamespace = ${quote(b.class_name)})`,
    ),
    ...databases.map(bindD1),
    ...Object.keys(WEBHOOK_NETWORKS).map((name) => `(name = ${quote(name)}, service = ${quote(name)})`),
    ...(assets === undefined ? [] : [`(name = ${quote(assets.binding)}, service = "assets")`]),
  ]
  const services = [
    '(name = "main", worker = .main)',
    '(name = "control", worker = .control)',
    disk('objects', config.disks.objects),
    ...(assets === undefined ? [] : [disk('assets', assets.path, false)]),
    network('internet', [...new Set([...reachable(vars['LIBSQL_URL']), ...(config.control.unsafe ? ['local'] : [])])]),
    ...Object.entries(WEBHOOK_NETWORKS).map(([name, allow]) => network(name, allow)),
    ...(databases.length > 0 ? ['(name = "d1", worker = .d1)', disk('d1-disk', config.disks.d1)] : []),
    ...databases.map(d1Entry),
  ]
  return `using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = ${block(services)},
  sockets = [
    (name = "http", address = ${quote(config.address)}, http = (), service = "main"),
    (name = "control", address = "127.0.0.1:0", http = (), service = "control")
  ]${databases.length > 0 ? `,\n  extensions = [(modules = [${module('miniflare:shared')}, ${module('miniflare:zod')}])]` : ''}
);

const main :Workerd.Worker = (
  modules = [${module(WORKER_FILE)}],
  compatibilityDate = ${quote(wrangler.compatibility_date)},
  compatibilityFlags = [${wrangler.compatibility_flags.map(quote).join(', ')}],
  bindings = ${block(bindings)},
  durableObjectNamespaces = ${block(classes.map(namespace))},
  durableObjectStorage = (localDisk = "objects")
);

${control(wrangler, classes, config)}${databases.length > 0 ? d1 : ''}`
}

function control({ compatibility_date }: Wrangler, classes: readonly string[], { control: c }: EdgeConfig): string {
  const flags = ['service_binding_extra_handlers', ...(c.unsafe ? ['unsafe_module'] : [])]
  const bindings = [
    `(name = "SECRET", text = ${quote(c.secret)})`,
    '(name = "MAIN", service = "main")',
    ...(c.unsafe ? classes : []).map(
      (name) => `(name = ${quote(name)}, durableObjectNamespace = (className = ${quote(name)}, serviceName = "main"))`,
    ),
  ]
  return `const control :Workerd.Worker = (
  modules = [${module(CONTROL_FILE)}],
  compatibilityDate = ${quote(compatibility_date)},
  compatibilityFlags = [${flags.map(quote).join(', ')}],
  bindings = ${block(bindings)}
);
`
}

function d1Entry({ binding, database_id }: Wrangler['d1_databases'][number]): string {
  return `(name = ${quote(`d1-${binding}`)}, worker = (
      modules = [${module('d1-entry.js')}],
      compatibilityDate = "2023-07-24",
      bindings = [
        (name = "MINIFLARE_NAMESPACE", text = ${quote(database_id)}),
        (name = "MINIFLARE_OBJECT", durableObjectNamespace = (className = "D1DatabaseObject", serviceName = "d1"))
      ]
    ))`
}

function bindD1({ binding }: Wrangler['d1_databases'][number]): string {
  const inner = `(name = "fetcher", service = ${quote(`d1-${binding}`)})`
  return `(name = ${quote(binding)}, wrapped = (moduleName = "cloudflare-internal:d1-api", innerBindings = [${inner}]))`
}

const d1 = `
const d1 :Workerd.Worker = (
  modules = [${module('d1.js')}],
  compatibilityDate = "2023-07-24",
  compatibilityFlags = ["nodejs_compat", "experimental"],
  durableObjectNamespaces = [(className = "D1DatabaseObject", uniqueKey = "d1", enableSql = true)],
  durableObjectStorage = (localDisk = "d1-disk"),
  bindings = [(name = "MINIFLARE_BLOBS", service = "d1-disk")]
);
`

/**
 * What the Worker's own requests may go to: the internet, and nothing of this machine and its network but the database.
 * A database that has a name can be anywhere; one given as an address is let through alone.
 */
export function reachable(libsqlUrl: unknown): string[] {
  const host = typeof libsqlUrl === 'string' && URL.canParse(libsqlUrl) ? new URL(libsqlUrl).hostname.replace(/^\[|\]$/g, '') : ''
  if (host === '') return ['public']
  const family = isIP(host)
  return family === 0 ? ['public', 'private', 'local'] : ['public', `${host}/${family === 4 ? 32 : 128}`]
}

function bindVar(name: string, value: unknown): string {
  const bound = typeof value === 'string' ? `text = ${quote(value)}` : `json = ${quote(JSON.stringify(value))}`
  return `(name = ${quote(name)}, ${bound})`
}

function namespace(className: string): string {
  return `(className = ${quote(className)}, uniqueKey = ${quote(className)}, enableSql = true)`
}

function network(name: string, allow: readonly string[]): string {
  return `(name = ${quote(name)}, network = (allow = [${allow.map(quote).join(', ')}], tlsOptions = (trustBrowserCas = true)))`
}

function disk(name: string, path: string, writable = true): string {
  return `(name = ${quote(name)}, disk = (path = ${quote(path)}, writable = ${writable}))`
}

function module(name: string): string {
  return `(name = ${quote(name)}, esModule = embed ${quote(name)})`
}

function block(items: readonly string[]): string {
  return items.length === 0 ? '[]' : `[\n    ${items.join(',\n    ')}\n  ]`
}

/**
 * A Cap'n Proto text literal. Its lexer knows the escapes of C and nothing of `\u`, so JSON will not do.
 */
export function quote(text: string): string {
  // oxlint-disable-next-line no-control-regex
  const escaped = text.replace(/["\\\u0000-\u001F\u007F]/g, (c) => `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`)
  return `"${escaped}"`
}
