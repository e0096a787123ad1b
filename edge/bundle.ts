/**
 * The Worker and everything it imports as one file, as `wrangler deploy` would make it. What needs Node fails here, at
 * build time. Where the file goes is the caller's to say; it is replaced whole or not at all.
 */
import { randomUUID } from 'node:crypto'
import { existsSync, readdirSync, statSync } from 'node:fs'
import { mkdir, rename, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { build } from 'esbuild'

/** The checkout: this file runs from edge/ under vitest and from dist/edge/ else. */
export const ROOT = rootOf(import.meta.dirname)
export const WORKER_ENTRY = join(ROOT, 'router/workers/worker.ts')
export const WORKER_BUNDLE = join(ROOT, 'dist/workers/worker.js')
export const WRANGLER = join(ROOT, 'wrangler.toml')

function rootOf(folder: string): string {
  return existsSync(join(folder, 'wrangler.toml')) ? folder : rootOf(dirname(folder))
}

/** What ends up in the bundle, or decides what does. */
const SOURCES = ['shared', 'drizzle', 'router', 'package-lock.json']

/** The path of the Worker's bundle, which is made anew when it is older than what it is made of. */
export async function currentBundle(): Promise<string> {
  const sources = SOURCES.map((path) => newest(join(ROOT, path)))
  if (newest(WORKER_BUNDLE) < Math.max(...sources)) await bundleWorker()
  return WORKER_BUNDLE
}

/** When a file, or the last of a folder, was changed; 0 when there is none. */
function newest(path: string): number {
  const stats = statSync(path, { throwIfNoEntry: false })
  if (!stats?.isDirectory()) return stats?.mtimeMs ?? 0
  // The folder's own time tells of what was removed from it.
  return Math.max(stats.mtimeMs, ...readdirSync(path).map((name) => newest(join(path, name))))
}

export interface Bundle {
  readonly path: string
  readonly bytes: number
  /** What Cloudflare counts against the limit of a Worker. */
  readonly gzipBytes: number
}

/** Throws what does not resolve or parse, with file and line. */
export async function bundleWorker(entry: string = WORKER_ENTRY, path: string = WORKER_BUNDLE): Promise<Bundle> {
  const { outputFiles } = await build({
    entryPoints: [entry],
    bundle: true,
    minify: true,
    write: false,
    format: 'esm',
    target: 'es2024',
    // `neutral` leaves no room for Node's built-ins; the conditions and fields are what wrangler resolves by.
    platform: 'neutral',
    conditions: ['workerd', 'worker', 'browser', 'import'],
    mainFields: ['browser', 'module', 'main'],
    external: ['cloudflare:*'],
    define: { 'process.env.NODE_ENV': '"production"' },
    absWorkingDir: ROOT,
    logLevel: 'silent',
  })
  const { contents } = outputFiles[0]!
  await mkdir(dirname(path), { recursive: true })
  // Somebody may be starting the old one at this moment.
  const temporary = `${path}.${randomUUID()}`
  await writeFile(temporary, contents)
  await rename(temporary, path)
  return { path, bytes: contents.byteLength, gzipBytes: gzipSync(contents).byteLength }
}
