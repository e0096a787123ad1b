/**
 * The arrows of docs/architecture.md, read from the imports: project references hold most of them at compile time, but
 * not what a folder may take from npm or from Node, and not what lies below one reference.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { builtinModules } from 'node:module'
import { dirname, join, relative } from 'node:path'
import { describe, expect, it } from 'vitest'
import { VERSION } from '../shared/version.ts'

const root = join(import.meta.dirname, '..')
const FOLDERS = ['shared', 'drizzle', 'router', 'runner', 'cli', 'edge', 'test', 'bench']
/** A file past this has a second idea in it. */
const MAX_LINES = 350

const files = FOLDERS.flatMap((folder) => sources(folder))
const isTest = (path: string) => path.endsWith('.test.ts') || /^(?:test|bench|edge\/fixtures)\//.test(path)
const shipped = files.filter((path) => !isTest(path))

function sources(folder: string): string[] {
  return list(folder)
    .filter((path) => path.endsWith('.ts') && !path.endsWith('.gen.ts') && !path.includes('node_modules'))
    .map((path) => path.replaceAll('\\', '/'))
}

function list(folder: string): string[] {
  try {
    return readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' }).map((path) => `${folder}/${path}`)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}

interface Manifest {
  readonly dependencies: Record<string, string>
  readonly devDependencies: Record<string, string>
  readonly files: string[]
}

const read = (path: string) => readFileSync(join(root, path), 'utf8')

/** What a file imports: paths from the root of the repository, package names, or `node:` modules. */
function importsOf(path: string): string[] {
  const text = read(path)
  const patterns = [/^\s*(?:import|export)\s[^'"]*?from\s+'([^']+)'/gm, /^\s*import\s+'([^']+)'/gm, /\bimport\(\s*'([^']+)'/g]
  return patterns.flatMap((pattern) => [...text.matchAll(pattern)].map(([, target]) => resolve(path, target!)))
}

function resolve(from: string, target: string): string {
  if (target.startsWith('.')) return relative(root, join(root, dirname(from), target)).replaceAll('\\', '/')
  const name = target.split('/').slice(0, target.startsWith('@') ? 2 : 1).join('/')
  return builtinModules.includes(target) ? `node:${target}` : name
}

const isOurs = (target: string) => FOLDERS.some((folder) => target.startsWith(`${folder}/`))
const isNode = (target: string) => target.startsWith('node:')

/** `file imports target` for every import that is not allowed. */
function forbidden(folder: RegExp, allowed: (target: string) => boolean): string[] {
  return shipped.filter((path) => folder.test(path)).flatMap((path) => importsOf(path).filter((t) => !allowed(t)).map((t) => `${path} imports ${t}`))
}

const inside = (...folders: string[]) => (target: string) => folders.some((folder) => target.startsWith(`${folder}/`))

describe('the arrows', () => {
  it('are read from the imports', () => {
    expect(shipped.length).toBeGreaterThan(60)
    expect(importsOf('router/core/runner-core.ts')).toEqual(expect.arrayContaining(['shared/frames.ts', 'router/core/run-state.ts']))
    expect(importsOf('shared/frames.ts')).toContain('zod')
    expect(importsOf('runner/spool.ts')).toContain('node:fs')
  })

  it('shared takes zod and nothing else', () => {
    expect(forbidden(/^shared\//, (t) => t === 'zod' || inside('shared')(t))).toEqual([])
  })

  it('router/core takes shared and nothing else: no clock, no I/O, no framework', () => {
    expect(forbidden(/^router\/core\//, inside('shared', 'router/core'))).toEqual([])
  })

  it('router/core reads no clock and no random source', () => {
    const reads = /\bDate\.now|\bnew Date\(\)|\bperformance\.|\bMath\.random|\bcrypto\.|\bset(?:Timeout|Interval)\b|\bprocess\./
    expect(shipped.filter((path) => path.startsWith('router/core/') && reads.test(read(path)))).toEqual([])
  })

  it('the portable router knows no host and nothing of Node', () => {
    const host = inside('router/node', 'router/workers')
    expect(forbidden(/^router\/(?!node\/|workers\/)/, (t) => !isNode(t) && !host(t))).toEqual([])
  })

  it('a host does not know the other one', () => {
    expect(forbidden(/^router\/node\//, (t) => !inside('router/workers')(t))).toEqual([])
    expect(forbidden(/^router\/workers\//, (t) => !inside('router/node')(t) && !isNode(t))).toEqual([])
  })

  it('router and runner do not know each other', () => {
    expect(forbidden(/^router\//, (t) => !isOurs(t) || inside('shared', 'router', 'drizzle')(t))).toEqual([])
    expect(forbidden(/^runner\//, (t) => !isOurs(t) || inside('shared', 'runner')(t))).toEqual([])
  })

  it('a dialect knows none of the others, and only the list of them knows all', () => {
    const dialects = [...new Set(shipped.flatMap((path) => /^router\/compat\/([\w-]+)\//.exec(path)?.[1] ?? []))].filter((name) => name !== 'kit')
    for (const name of dialects) {
      const others = dialects.filter((other) => other !== name).map((other) => `router/compat/${other}`)
      expect(forbidden(new RegExp(`^router/compat/${name}/`), (t) => !inside(...others)(t) && t !== 'router/compat/families.ts')).toEqual([])
    }
    expect(forbidden(/^router\/compat\/kit\//, (t) => !inside(...dialects.map((name) => `router/compat/${name}`))(t))).toEqual([])
  })

  it('the store and the routes stay apart', () => {
    expect(forbidden(/^router\/(?:store|core|guard)\//, (t) => !inside('router/api', 'router/admin', 'router/compat', 'router/app.ts')(t))).toEqual([])
    expect(forbidden(/^router\/ports\.ts$/, (t) => !inside('router/api', 'router/admin', 'router/engine')(t))).toEqual([])
  })

  it('only the command line takes from all of them, and nobody takes from it but the second command', () => {
    const takers = shipped.filter((path) => !/^(?:cli|edge)\//.test(path))
    expect(takers.filter((path) => importsOf(path).some(inside('cli', 'edge')))).toEqual([])
  })

  it('edge runs the Worker as the file that was made of it, and takes neither it nor the runner', () => {
    const router = inside('router/core', 'router/guard', 'router/hub', 'router/node')
    expect(forbidden(/^edge\//, (t) => !isOurs(t) || inside('edge', 'cli', 'shared')(t) || router(t))).toEqual([])
    expect(forbidden(/^cli\//, (t) => !inside('edge')(t))).toEqual([])
    // What starts a Worker knows nothing of ours, so that any Worker can be started with it.
    expect(forbidden(/^edge\/(?!main|command|tokens)/, (t) => !isOurs(t) || inside('edge')(t))).toEqual([])
  })

  it('nothing that ships takes from the tests', () => {
    expect(forbidden(/./, (t) => !inside('test', 'bench')(t) && !t.endsWith('.test.ts'))).toEqual([])
  })

  it('every package that the sources take is a dependency', () => {
    const { dependencies, devDependencies, files: published } = JSON.parse(read('package.json')) as Manifest
    const taken = (paths: string[]) => [...new Set(paths.flatMap(importsOf).filter((t) => !isOurs(t) && !isNode(t)))]
    // Given by the runtime.
    const given = ['cloudflare:workers']
    const ofEdge = shipped.filter((path) => path.startsWith('edge/'))
    const needed = taken(shipped.filter((path) => !path.startsWith('edge/')))
    expect(needed.filter((name) => !(name in dependencies) && !given.includes(name))).toEqual([])
    // It runs from a checkout only: workerd and the bundler are 150 MB that a router does not need.
    expect(published).toContain('!dist/edge')
    expect(taken(ofEdge).filter((name) => !(name in { ...dependencies, ...devDependencies }))).toEqual([])
  })
})

describe('the sources', () => {
  it(`have at most ${MAX_LINES} lines a file`, () => {
    const long = files.map((path) => [path, read(path).split('\n').length - 1] as const).filter(([, lines]) => lines > MAX_LINES)
    expect(long).toEqual([])
  })

  it('carry the version of the package', () => {
    const { version } = JSON.parse(read('package.json')) as { version: string }
    expect(VERSION).toBe(version)
    const lock = JSON.parse(read('package-lock.json')) as { version: string; packages: Record<string, { version?: string }> }
    expect([lock.version, lock.packages['']?.version]).toEqual([version, version])
  })

  it('name no registry in the lock file: whose mirror an install used is nobody else’s business', () => {
    const hosts = new Set([...read('package-lock.json').matchAll(/"resolved": "([a-z+]+:\/\/[^/"]+)/g)].map(([, host]) => host))
    expect([...hosts]).toEqual([])
  })
})
