/** That the rules of settings.ts keep tools of CLI 2.1.197 out of a folder inside the workspace, and as far as they do. */
import { mkdir, readdir, symlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { startCli, tempFolder } from '../test/model/claude.ts'
import { startModel, text, toolUse, type Model, type Reply } from '../test/model/scripted.ts'
import { claudeSettings } from './claude/settings.ts'
import { guardMentions } from './mentions.ts'

const SECRET = 'a key of the runner'
const TOOLS = ['Read', 'Grep', 'Glob', 'Write', 'Edit', 'Bash']
const Result = z.object({ type: z.literal('tool_result'), content: z.unknown() })

describe('the folders of the runner inside a workspace, for tools that are all allowed', () => {
  let folder: Awaited<ReturnType<typeof tempFolder>>
  let model: Model
  beforeAll(async () => {
    folder = await tempFolder()
    model = await startModel()
    await put('work/app/open.txt', 'open to all')
    await mkdir(join(closed(), 'runs'), { recursive: true })
    await symlink(closed(), at('work/link'))
  })
  afterAll(async () => {
    await model.close()
    await folder.remove()
  })

  const at = (path: string) => join(folder.path, path)
  /** With every sign that means something in a rule. */
  const closed = () => at('work/my data (x) [1]*!, é/runner')
  const key = () => join(closed(), 'signing.jwk')
  async function put(path: string, content: string): Promise<void> {
    await mkdir(dirname(at(path)), { recursive: true })
    await writeFile(at(path), content)
  }

  /** What each call brought to the model, and what came of the prompt. */
  async function calls(lock: boolean, steps: readonly Reply[], prompt = 'hi'): Promise<{ results: string[]; first: string }> {
    await writeFile(key(), SECRET)
    const spec = { tenant: 'main', session: { mode: 'new', id: crypto.randomUUID() } as const, prompt, timeout_s: 60, allowed_tools: TOOLS }
    await put('settings.json', JSON.stringify(claudeSettings(spec, { closed: lock ? [closed(), dirname(closed())] : [] })))
    const before = model.main().length
    model.script((_request, n) => steps[n - before - 1] ?? text('ok'))
    const env = { CLAUDE_CONFIG_DIR: at('config'), ANTHROPIC_BASE_URL: model.url, ANTHROPIC_API_KEY: 'sk-test-not-a-key-000' }
    const args = [`--settings=${at('settings.json')}`, `--tools=${TOOLS.join(',')}`, '--disable-slash-commands']
    const cli = startCli({ env, cwd: at('work'), home: folder.path, args })
    await cli.turn(prompt)
    await cli.close()
    const [first, ...sent] = model.main().slice(before)
    const results = sent.map(({ body }) => {
      const content = body?.messages.at(-1)?.content
      return JSON.stringify((Array.isArray(content) ? content : []).find((one) => Result.safeParse(one).success))
    })
    return { results, first: first?.raw ?? '' }
  }

  const brings = (): Record<string, Reply> => ({
    read: toolUse('Read', { file_path: key() }),
    'read through a link': toolUse('Read', { file_path: at('work/link/signing.jwk') }),
    'read by dots': toolUse('Read', { file_path: at('work/app/../link/signing.jwk') }),
    grep: toolUse('Grep', { pattern: SECRET, output_mode: 'content' }),
    'grep there': toolUse('Grep', { pattern: SECRET, output_mode: 'content', path: closed() }),
    'grep the file': toolUse('Grep', { pattern: SECRET, output_mode: 'content', path: key() }),
    'grep through a link': toolUse('Grep', { pattern: SECRET, output_mode: 'content', path: at('work/link') }),
    glob: toolUse('Glob', { pattern: '**/*' }),
    'glob there': toolUse('Glob', { pattern: '*', path: closed() }),
    cat: toolUse('Bash', { command: `cat ${JSON.stringify(key())}` }),
    'cd and cat': toolUse('Bash', { command: `cd ${JSON.stringify(closed())} && cat signing.jwk` }),
  })
  const found = (result: string) => result.includes(SECRET) || /[^/]signing\.jwk\\?[n"]|runner\/signing\.jwk\\?[n"]/.test(result.replaceAll(/denied.*|Permission.*/g, ''))

  it('are open to none of them, where they would be without our rules', async () => {
    // One at a time: what was read before is not sent again.
    for (const [name, step] of Object.entries(brings())) {
      expect(found((await calls(false, [step])).results[0] ?? ''), `${name}, without rules`).toBe(true)
    }
    const names = Object.keys(brings())
    const { results } = await calls(true, Object.values(brings()))
    expect(results).toHaveLength(names.length)
    expect(names.filter((_, i) => found(results[i] ?? ''))).toEqual([])
  })

  it('take nothing from them', async () => {
    const before = await readdir(closed())
    const { results } = await calls(true, [
      toolUse('Write', { file_path: join(closed(), 'new'), content: 'x' }),
      toolUse('Write', { file_path: at('work/link/new'), content: 'x' }),
      toolUse('Edit', { file_path: key(), old_string: 'key', new_string: 'lock' }),
      toolUse('Bash', { command: `echo x > ${JSON.stringify(join(closed(), 'new'))}` }),
      toolUse('Write', { file_path: at('work/app/new'), content: 'x' }),
    ])
    expect([await readdir(closed()), results.length]).toEqual([before, 5])
    expect(await readdir(at('work/app'))).toContain('new')
  })

  it('are open to a program that Bash starts, which only bwrap keeps out', async () => {
    const { results } = await calls(true, [toolUse('Bash', { command: `grep -rh ${JSON.stringify(SECRET)} . ` })])
    expect(results[0]).toContain(SECRET)
  })

  it('are not mentioned in a prompt either, nor through a link, which the rules alone would let pass', async () => {
    const prompt = `see @link/signing.jwk @link/ @${JSON.stringify(key())} and @app/open.txt`
    expect((await calls(true, [], prompt)).first).toContain(SECRET)
    const { first } = await calls(true, [], await guardMentions(prompt, at('work'), [at('work')], [closed()]))
    expect([first.includes(SECRET), first.includes('open to all'), first.includes('Lists files')]).toEqual([false, true, false])
  })
})
