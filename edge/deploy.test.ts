import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { ROOT, WRANGLER } from './bundle.ts'

const dir = mkdtempSync(join(tmpdir(), 'runyard-deploy-'))
afterAll(() => rmSync(dir, { recursive: true, force: true }))

/** With no PATH, so that nothing is ever deployed from here. */
function deploy(wrangler: string, ...args: string[]) {
  const path = join(dir, 'wrangler.toml')
  writeFileSync(path, wrangler)
  const script = join(ROOT, 'scripts/deploy-workers.mjs')
  const { status, stderr } = spawnSync(process.execPath, [script, '--config', path, ...args], { env: { PATH: dir }, encoding: 'utf8' })
  return { status, stderr }
}

const ours = readFileSync(WRANGLER, 'utf8')
const named = ours.replace('PUBLIC_URL = ""', 'PUBLIC_URL = "https://runs.example.com"')

describe('npm run deploy:workers', () => {
  it('names everything that a user still has to set, and deploys nothing', () => {
    const { status, stderr } = deploy(ours)
    expect(status).toBe(78)
    expect(stderr).toContain('database_id is a placeholder')
    expect(stderr).toContain('PUBLIC_URL is empty')
  })

  it('is content with a database and a name', () => {
    const { stderr } = deploy(named.replace(/database_id = "[0-]+"/, 'database_id = "7f3c1c5e-0000-4000-8000-2b6f0c7d9a10"'))
    expect(stderr).not.toContain('wrangler.toml')
  })

  it('reminds of the secret when there is no D1 database', () => {
    const { stderr } = deploy(named.replace(/\[\[d1_databases\]\][^[]*/, ''))
    expect(stderr).toContain('needs the secret LIBSQL_URL')
    expect(stderr).not.toContain('placeholder')
  })

  it('only warns in a dry run', () => {
    const { stderr } = deploy(named, '--dry-run')
    expect(stderr).toContain('database_id is a placeholder')
    expect(stderr.split('\n').filter((line) => line.startsWith('wrangler.toml'))).toHaveLength(1)
  })
})
