/**
 * The Worker and everything it imports as one file, as `wrangler deploy` would make it. What needs Node fails here, at
 * build time. Where the file goes is the caller's to say; it is replaced whole or not at all.
 */
import { randomUUID } from 'node:crypto'
import { existsSync } from 'node:fs'
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
