// `npm run deploy:workers [-- --dry-run …]`: looks for what would make a Worker that answers nobody, then `wrangler deploy`.
// wrangler is no dependency of ours: it needs a newer Node than everything else here, and only who deploys needs it.
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parse } from 'smol-toml'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const args = process.argv.slice(2)
const dryRun = args.includes('--dry-run')
const config = args.includes('--config') ? args[args.indexOf('--config') + 1] : join(root, 'wrangler.toml')

const { vars = {}, d1_databases: databases = [] } = parse(readFileSync(config, 'utf8'))
const missing = []
if (databases.some(({ database_id: id }) => /^[0-]*$/.test(id ?? ''))) {
  missing.push(
    'database_id is a placeholder: `npx wrangler@4 d1 create runyard` prints yours; or, with a libSQL server, remove [[d1_databases]] and set the secret LIBSQL_URL',
  )
}
if (!vars.PUBLIC_URL && !vars.ALLOWED_HOSTS) {
  missing.push('PUBLIC_URL is empty: the Worker would refuse every request, since it answers to no host name but its own')
}
for (const what of missing) process.stderr.write(`wrangler.toml: ${what}\n`)
if (missing.length > 0 && !dryRun) process.exit(78)
if (databases.length === 0) process.stderr.write('wrangler.toml names no D1 database, so the Worker needs the secret LIBSQL_URL\n')

const [major, minor] = process.versions.node.split('.').map(Number)
if (major < 22 || (major === 22 && minor < 12)) {
  process.stderr.write(`wrangler needs Node 22.12 or newer; this is ${process.version}. Everything else here runs on 20.19.\n`)
  process.exit(78)
}

const { status } = spawnSync('npx', ['--yes', 'wrangler@4', 'deploy', ...args], {
  cwd: root,
  stdio: 'inherit',
  shell: process.platform === 'win32',
  // A dry run only bundles; it has nothing to ask of anybody, and nothing to fetch.
  env: { ...process.env, WRANGLER_SEND_METRICS: 'false', ...(dryRun ? { CI: '1', CLOUDFLARE_CF_FETCH_ENABLED: 'false' } : {}) },
})
process.exit(status ?? 1)
