// Runs before `npm start` and `npm test`, so that both work on a fresh clone: installs and builds what is missing or stale.
// Node built-ins only; it runs before anything is installed.
import { spawnSync } from 'node:child_process'
import { existsSync, lstatSync, readdirSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const [major, minor] = process.versions.node.split('.').map(Number)
if (major < 20 || (major === 20 && minor < 19)) {
  process.stderr.write(`Runyard needs Node 20.19 or newer; this is ${process.version}.\n`)
  process.exit(78)
}

const mtime = (path) => (existsSync(path) ? statSync(path).mtimeMs : 0)

function newest(dir) {
  let latest = 0
  for (const entry of readdirSync(dir, { withFileTypes: true, recursive: true })) {
    if (entry.isFile()) latest = Math.max(latest, mtime(join(entry.parentPath ?? entry.path, entry.name)))
  }
  return latest
}

function run(what, command, args) {
  process.stderr.write(`${what}\n`)
  // stdout is the caller's: `npm start -- --json` promises one line on it.
  const { status } = spawnSync(command, args, { cwd: root, stdio: ['ignore', 2, 2], shell: process.platform === 'win32' })
  if (status !== 0) {
    process.stderr.write(`\`${command} ${args.join(' ')}\` failed; see above.\n`)
    process.exit(1)
  }
}

// A link leads to the modules of another checkout, which an installation would empty.
const linked = lstatSync(join(root, 'node_modules'), { throwIfNoEntry: false })?.isSymbolicLink() === true
if (!linked && mtime(join(root, 'node_modules', '.package-lock.json')) < mtime(join(root, 'package-lock.json'))) {
  run('Installing dependencies (once) …', 'npm', ['ci', '--no-audit', '--no-fund'])
}
const sources = ['shared', 'drizzle', 'router', 'runner', 'cli', 'edge', 'test/chaos', 'bench'].map((dir) => join(root, dir))
const built = mtime(join(root, 'dist', 'cli', 'main.js'))
if (!existsSync(join(root, 'dist', '.built')) || mtime(join(root, 'dist', '.built')) < Math.max(...sources.map(newest)) || built === 0) {
  run('Building …', 'npm', ['run', 'build', '--silent'])
}
