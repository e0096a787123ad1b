import { array, assert, constantFrom, property, record } from 'fast-check'
import { describe, expect, it } from 'vitest'
import { bwrapArgs, unshareArgs, type Job, type View } from './sandbox-args.ts'

const JOB: Job = {
  cwd: '/home/ann/work/app',
  workspace: '/home/ann/work',
  configDir: '/home/ann/.state/runyard/runner/config/default',
  privateDir: '/home/ann/.state/runyard/runner/runs/run_1-x',
  home: '/home/ann',
  dirs: [],
  reads: [],
  writes: [],
}
const VIEW: View = { programs: ['/home/ann/.local/share/claude/versions'], hidden: ['/home/ann/.state/runyard'] }

type Mount = { kind: string; at: string }
const KINDS = ['--ro-bind', '--ro-bind-try', '--bind', '--bind-try', '--tmpfs', '--proc', '--dev']
/** Reads an argv of bwrap the way bwrap does. */
function mountsOf(argv: readonly string[]): Mount[] {
  const mounts: Mount[] = []
  for (let i = 1; i < argv.length; i++) {
    const kind = argv[i]!
    if (!KINDS.includes(kind)) continue
    i += kind.includes('bind') ? 2 : 1
    mounts.push({ kind, at: argv[i]! })
  }
  return mounts
}
/** What a path is inside: the last mount that covers it. */
const seen = (mounts: readonly Mount[], path: string) => mounts.findLast(({ at }) => path === at || path.startsWith(`${at}/`))

describe('the command line of unshare', () => {
  const tools = { setpriv: '/usr/bin/setpriv', unshare: '/usr/bin/unshare' }
  it('ties the namespace to its wrapper and the wrapper to the runner', () => {
    expect(unshareArgs(tools, false)).toEqual(['/usr/bin/setpriv', '--pdeathsig', 'KILL', '/usr/bin/unshare', '--pid', '--fork', '--kill-child', '--mount-proc', '--'])
  })
  it('makes a user namespace first for those who need one', () => {
    expect(unshareArgs(tools, true).slice(3, 6)).toEqual(['/usr/bin/unshare', '--user', '--map-current-user'])
  })
})

describe('the command line of bwrap', () => {
  const mounts = mountsOf(bwrapArgs('/usr/bin/bwrap', VIEW, JOB))

  it('dies with the runner, drops every capability, and ends before the CLI', () => {
    const argv = bwrapArgs('/usr/bin/bwrap', VIEW, JOB)
    expect(argv.slice(0, 3)).toEqual(['/usr/bin/bwrap', '--die-with-parent', '--unshare-pid'])
    expect(argv.join(' ')).toContain('--cap-drop ALL')
    expect(argv.slice(-3)).toEqual(['--chdir', JOB.cwd, '--'])
    expect(argv).not.toContain('--unshare-net')
  })

  it.each([
    ['the workspace', '/home/ann/work/app/file', '--bind'],
    ['the config folder of the tenant', `${JOB.configDir}/projects/x.jsonl`, '--bind'],
    ['the folder of the run', `${JOB.privateDir}/settings.json`, '--bind'],
  ])('lets the run write to %s', (_what, path, kind) => expect(seen(mounts, path)?.kind).toBe(kind))

  it.each([
    ['keys of the runner', '/home/ann/.state/runyard/runner/signing.jwk'],
    ['other tenants', '/home/ann/.state/runyard/runner/config/other/.claude.json'],
    ['the home folder', '/home/ann/.ssh/id_ed25519'],
    ['temporary files of others', '/tmp/other'],
    ['sessions of other processes', `${JOB.configDir}/sessions/1.json`],
  ])('has nothing in place of %s', (_what, path) => expect(seen(mounts, path)?.kind).toBe('--tmpfs'))

  it.each(['/etc/shadow', '/etc/ssh/ssh_host_ed25519_key', '/root/.bashrc', '/var/lib/x', '/home/bob/x', '/run/docker.sock'])('does not have %s at all', (path) => {
    expect(seen(mounts, path)).toBeUndefined()
  })

  it('keeps what it hides hidden, and the CLI read-only, in a workspace that is the whole home folder', () => {
    const open = mountsOf(bwrapArgs('bwrap', VIEW, { ...JOB, workspace: '/home/ann', cwd: '/home/ann' }))
    expect(seen(open, '/home/ann/notes.txt')?.kind).toBe('--bind')
    expect(seen(open, '/home/ann/.state/runyard/runner/signing.jwk')?.kind).toBe('--tmpfs')
    expect(seen(open, '/home/ann/.local/share/claude/versions/2.1.197')?.kind).toBe('--ro-bind-try')
    expect(seen(open, `${JOB.configDir}/x`)?.kind).toBe('--bind')
  })

  it('hides a folder even from a workspace that is this folder', () => {
    const same = mountsOf(bwrapArgs('bwrap', VIEW, { ...JOB, workspace: VIEW.hidden[0]! }))
    expect(seen(same, `${VIEW.hidden[0]}/client.json`)?.kind).toBe('--tmpfs')
  })

  it('mounts an outer folder before an inner one, whatever the paths are', () => {
    const path = array(constantFrom('a', 'b', 'tmp', 'home', 'usr'), { minLength: 1, maxLength: 5 }).map((parts) => `/${parts.join('/')}`)
    const job = record({ cwd: path, dirs: array(path), workspace: path, configDir: path, privateDir: path, home: path, reads: array(path), writes: array(path) })
    assert(
      property(job, record({ programs: array(path), hidden: array(path) }), (j, view) => {
        const all = mountsOf(bwrapArgs('bwrap', view, j))
        for (const [i, inner] of all.entries()) {
          for (const outer of all.slice(i + 1)) expect(inner.at.startsWith(`${outer.at}/`), `${outer.at} after ${inner.at}`).toBe(false)
        }
        expect(seen(all, `${j.configDir}/sessions/1.json`)?.at.length).toBeGreaterThanOrEqual(`${j.configDir}/sessions`.length)
      }),
    )
  })

  it('leaves a home folder that is the root of everything alone', () => {
    expect(mountsOf(bwrapArgs('bwrap', VIEW, { ...JOB, home: '/' })).map(({ at }) => at)).not.toContain('/')
  })
})
