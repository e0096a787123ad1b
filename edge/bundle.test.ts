import { existsSync } from 'node:fs'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { workerSecrets } from '../router/node/data-dir.ts'
import { bundleWorker, WRANGLER } from './bundle.ts'
import { startWorkerd } from './workerd.ts'

/** Cloudflare's free plan takes 3 MiB; a cold start has to parse all of it. */
const MAX_GZIP_BYTES = 400 * 1_024

let dir: string
beforeAll(async () => void (dir = await mkdtemp(join(tmpdir(), 'runyard-bundle-'))))
afterAll(() => rm(dir, { recursive: true, force: true }))

describe('the bundle of our Worker', () => {
  it(`has at most ${MAX_GZIP_BYTES / 1_024} KiB gzip, starts, makes its tables and answers`, async () => {
    const { path, bytes, gzipBytes } = await bundleWorker(undefined, join(dir, 'worker.js'))
    expect((await readFile(path)).byteLength).toBe(bytes)
    expect(gzipBytes).toBeLessThanOrEqual(MAX_GZIP_BYTES)

    const vars = await workerSecrets(dir)
    const worker = await startWorkerd({ bundle: path, wrangler: WRANGLER, dir, vars })
    try {
      const response = await fetch(`${worker.url}/healthz`)
      expect({ status: response.status, body: await response.json() }).toEqual({ status: 200, body: { status: 'ok' } })
      await worker.cron('*/15 * * * *')
    } finally {
      await worker.kill()
    }
  })
})

describe('a bundle', () => {
  it('cannot be made of what needs Node, and then leaves the old one in place', async () => {
    const entry = join(dir, 'entry.js')
    const path = join(dir, 'out/bundle.js')
    await writeFile(entry, "import { readFileSync } from 'node:fs'; export default { fetch: () => readFileSync('x') }")
    await expect(bundleWorker(entry, path)).rejects.toThrow('Could not resolve "node:fs"')
    expect(existsSync(path)).toBe(false)

    await writeFile(entry, "import { DurableObject } from 'cloudflare:workers'; export class A extends DurableObject {}")
    await bundleWorker(entry, path)
    const good = await readFile(path, 'utf8')
    expect(good).toMatch(/from ?"cloudflare:workers"/)
    await writeFile(entry, 'export {')
    await expect(bundleWorker(entry, path)).rejects.toThrow('entry.js:1:8')
    expect(await readFile(path, 'utf8')).toBe(good)
  })
})
