import { randomUUID } from 'node:crypto'
import { existsSync } from 'node:fs'
import { chmod, mkdir, mkdtemp, readdir, readFile, realpath, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { alive, CLAUDE, Kept, Stage, type Part } from '../test/fixtures/cli/stage.ts'
import { missing } from '../test/kit/sandboxes.ts'
import { until } from '../test/kit/wait.ts'
import { text, toolUse, type Script } from '../test/model/scripted.ts'
import { ClaudeProcess } from './claude/process.ts'
import type { Launch } from './claude/launch.ts'
import { detect, SandboxError, visibleWorkspace, type Sandbox } from './sandbox.ts'

const env = { PATH: process.env['PATH'] }

const absent = { unshare: await missing('unshare'), bwrap: await missing('bwrap') }

/** One call of the tool, then `done`. */
const once = (name: string, input: Record<string, unknown>): Script => {
  let called = false
  return () => {
    if (called) return text('done')
    called = true
    return toolUse(name, input)
  }
}

describe.each(['unshare', 'bwrap'] as const)('the real CLI in %s', (mode) => {
  describe.skipIf(absent[mode] !== '')(`where it works${absent[mode]}`, () => {
    let stage: Stage
    let sandbox: Sandbox
    let secrets: string
    beforeAll(async () => {
      stage = await Stage.open()
      secrets = join(stage.root, 'secrets')
      await mkdir(secrets)
      await writeFile(join(secrets, 'key'), 'the key of the router')
      await writeFile(join(stage.root, '.profile'), 'of the home folder')
      sandbox = await detect(mode, { env, claude: CLAUDE, hidden: [secrets] })
    })
    afterAll(() => stage.close())
    beforeEach(() => stage.model.script(() => text('ok')))

    const launch = (part: Part = {}): Launch => {
      const bare = stage.launch(part)
      const { cwd, configDir, privateDir } = bare
      const prefix = sandbox.prefix({ cwd, workspace: cwd, configDir, privateDir, home: stage.root, dirs: [], reads: [], writes: [] })
      return { ...bare, claude: sandbox.program, prefix }
    }
    const play = async (part: Part = {}) => {
      const sink = new Kept()
      const end = await (await ClaudeProcess.prepare(launch(part))).turn(part.prompt ?? 'hello', sink)
      return { end, answer: sink.ofType('result')[0]?.['result'], sink }
    }
    const bash = async (command: string): Promise<string> => {
      stage.model.script(once('Bash', { command }))
      const { sink } = await play({ allowed_tools: ['Bash'] })
      return JSON.stringify(sink.ofType('user'))
    }
    /** The CLI with a `sleep` of its Bash tool. */
    const asleep = async () => {
      const command = `sleep 7${String(Date.now()).slice(-6)}`
      stage.model.script(() => toolUse('Bash', { command }))
      const claude = await ClaudeProcess.prepare(launch({ allowed_tools: ['Bash'] }))
      const turn = claude.turn('hello', new Kept())
      const tool = { text: command.replace(' ', '\0') }
      await until('the tool to run', async () => (await alive(tool)).length > 0)
      return { claude, turn, tool }
    }

    it('answers, and exits as it does without', async () => {
      const { end, answer } = await play()
      expect(answer).toBe('ok')
      expect(end).toMatchObject({ code: 0, signal: null, result: { is_error: false } })
    })

    it('keeps what a tool writes, and the session for the next turn', async () => {
      const id = randomUUID()
      const path = join(stage.cwd, `${mode}.txt`)
      stage.model.script(once('Write', { file_path: path, content: 'written inside' }))
      expect((await play({ prompt: 'the word is plum', session: { mode: 'new', id }, permission_mode: 'acceptEdits' })).answer).toBe('done')
      expect(await readFile(path, 'utf8')).toBe('written inside')
      stage.model.script(() => text('plum'))
      expect((await play({ prompt: 'which word', session: { mode: 'resume', id } })).answer).toBe('plum')
      expect(stage.model.main().at(-1)?.raw).toContain('the word is plum')
    })

    it('refuses a session that is not there by its name', async () => {
      await expect(play({ session: { mode: 'resume', id: randomUUID() } })).rejects.toMatchObject({ code: 'session_not_found' })
    })

    it('shows a tool no process but those of its run', async () => {
      const said = await bash('echo "pids: $(ls /proc | grep -c "^[0-9]") parent $(cat /proc/1/comm)"')
      expect(Number(/pids: (\d+)/.exec(said)?.[1])).toBeLessThan(12)
      expect(said).toMatch(/parent (claude|bwrap)/)
    })

    it('lets several work on one config folder at the same time', async () => {
      stage.model.script((request) => text(request.prompt))
      const played = await Promise.all(['one', 'two', 'three'].map((prompt) => play({ prompt })))
      expect(played.map(({ answer }) => answer)).toEqual(['one', 'two', 'three'])
    })

    // The exit status is that of the CLI, not of what is around it.
    it.each([
      ['interrupt', [0, 1]],
      ['term', [143]],
      ['kill', ['SIGKILL']],
    ] as const)('leaves nothing alive after a cancel by %s during a tool', async (how, status) => {
      const { claude, turn, tool } = await asleep()
      await claude.cancel(how)
      expect(await alive(tool)).toEqual([])
      const { code, signal } = await turn
      expect(status).toContain(signal ?? code)
    })

    it('leaves nothing alive, and no entry of a live session, when the wrapper is killed', async () => {
      const { claude, turn, tool } = await asleep()
      process.kill(claude.pid, 'SIGKILL')
      await turn
      expect(await alive(tool)).toEqual([])
      await claude.cancel('kill')
      expect(await readdir(join(stage.configDir, 'sessions'))).toEqual([])
    })

    if (mode === 'unshare') return
    it('shows a tool of this user nothing but its workspace and its own folders', async () => {
      const said = await bash(`cat ${secrets}/key; cat ${stage.root}/.profile; cat /etc/shadow; touch /usr/bin/x-runyard; touch ${stage.cwd}/mine && echo touched; ls -a ${stage.root}`)
      expect(said).not.toContain('the key of the router')
      expect(said).not.toContain('of the home folder')
      expect(said).not.toContain('root:')
      expect(said).toContain('Read-only file system')
      expect(said).toContain('touched')
      expect(existsSync('/usr/bin/x-runyard')).toBe(false)
    })
  })
})

describe('the choice of a sandbox', () => {
  let folder: string
  beforeAll(async () => {
    folder = await realpath(await mkdtemp(join(tmpdir(), 'runyard-tools-')))
  })
  afterAll(() => rm(folder, { recursive: true, force: true }))

  /** A PATH on which `name` is a script that ends with this. */
  const toolThat = async (name: string, script: string) => {
    const path = await mkdtemp(join(folder, 'bin-'))
    await writeFile(join(path, name), `#!/bin/sh\n${script}\n`)
    await chmod(join(path, name), 0o755)
    return { PATH: `${path}:${env.PATH ?? ''}` }
  }

  it('is a PID namespace by default, and nothing where none can be made', async () => {
    const works = await detect('auto', { env, claude: CLAUDE })
    expect(works.mode).toBe(absent.unshare === '' ? 'unshare' : 'none')
    const refused = await toolThat('unshare', 'echo "unshare failed: Operation not permitted" >&2; exit 1')
    const without = await detect('auto', { env: refused, claude: CLAUDE })
    expect(without.mode).toBe('none')
    expect(without.program).toBe(CLAUDE)
    expect(without.means).toMatch(/rights of this user.*unshare failed: Operation not permitted/)
  })

  it.each(['unshare', 'bwrap'] as const)('says why %s does not work when it was asked for', async (mode) => {
    const refused = await toolThat(mode, 'echo "creating namespace failed: Operation not permitted" >&2; exit 1')
    const error = await detect(mode, { env: refused, claude: CLAUDE }).catch((reason: unknown) => reason)
    expect(error).toBeInstanceOf(SandboxError)
    expect(error).toMatchObject({ message: `sandbox ${mode}: it does not work here: creating namespace failed: Operation not permitted`, hint: expect.stringContaining('namespaces') })
  })

  it('starts a CLI that is a link to a script by what the script names', async () => {
    const [bin, lib, node] = [join(folder, 'bin'), join(folder, 'lib'), join(folder, 'node')]
    for (const path of [bin, lib, node]) await mkdir(path)
    await writeFile(join(lib, 'cli.js'), '#!/usr/bin/env -S runyard-node --flag\n')
    await symlink(join(lib, 'cli.js'), join(bin, 'claude'))
    await writeFile(join(node, 'runyard-node'), '')
    await chmod(join(node, 'runyard-node'), 0o755)
    const bwrap = await toolThat('bwrap', 'exit 0')
    const sandbox = await detect('bwrap', { env: { PATH: `${bwrap.PATH}:${node}` }, claude: join(bin, 'claude') })
    expect(sandbox.program).toBe(join(lib, 'cli.js'))
    const job = { cwd: '/w', workspace: '/w', configDir: '/c', privateDir: '/p', home: '/', dirs: [], reads: [], writes: [] }
    const line = sandbox.prefix(job).join(' ')
    expect(line).toContain(`--ro-bind-try ${lib} ${lib}`)
    expect(line).toContain(`--ro-bind-try ${node} ${node}`)
  })
})

describe('the workspace that a sandboxed run sees', () => {
  const roots = ['/w', '/w/inner', '/x']
  it.each([
    ['the root around its folder', '/x/app/src', '/x'],
    ['the innermost of several', '/w/inner/a', '/w/inner'],
    ['the root itself', '/w', '/w'],
    ['only the folder of its session', '/w/0199aaaa-0000-7000-8000-000000000000', '/w/0199aaaa-0000-7000-8000-000000000000'],
    ['only the folder that has a name', '/w/named/acme/site', '/w/named/acme/site'],
    ['the root for the folder of all that have one', '/w/named/acme', '/w'],
    ['the root for what is below a folder of a session', '/w/0199aaaa-0000-7000-8000-000000000000/src', '/w'],
  ])('is %s', (_what, cwd, seen) => expect(visibleWorkspace(roots, cwd)).toBe(seen))
})
