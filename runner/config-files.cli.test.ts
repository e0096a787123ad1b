/**
 * What CLI 2.1.197 makes of config files, and of what the locks of settings.ts leave of it. Each hole is shown to be one
 * without its lock, or the test would prove nothing.
 */
import { mkdir, stat, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { startCli, tempFolder } from '../test/model/claude.ts'
import { startModel, text, toolUse, type Model, type Reply } from '../test/model/scripted.ts'
import { claudeSettings, type SettingsParts } from './claude/settings.ts'
import { configRefusal } from '../shared/config-content.ts'
import type { ConfigFile } from '../shared/config-files.ts'
import { prepareConfigDir } from './config-dir.ts'

const SECRET = 'a secret of the machine'
const SKILL = '---\nname: deploy\ndescription: deploys everything\n---\nThe way to deploy.\n'

describe('what the CLI makes of config files', () => {
  let folder: Awaited<ReturnType<typeof tempFolder>>
  let model: Model
  beforeEach(async () => {
    folder = await tempFolder()
    model = await startModel()
    await put('outside.md', SECRET)
  })
  afterEach(async () => {
    await model.close()
    await folder.remove()
  })

  const at = (path: string) => join(folder.path, path)
  async function put(path: string, content: string): Promise<void> {
    await mkdir(dirname(at(path)), { recursive: true })
    await writeFile(at(path), content)
  }
  /** Everything that the model was sent in one turn. */
  async function sent(parts: SettingsParts, { prompt = 'hi', flags = ['--disable-slash-commands'], script = [] as Reply[] } = {}): Promise<string> {
    await mkdir(at('work'), { recursive: true })
    const settings = claudeSettings({ tenant: 'main', session: { mode: 'new', id: crypto.randomUUID() }, prompt, timeout_s: 60 }, parts)
    await put('settings.json', JSON.stringify(settings))
    const before = model.main().length
    model.script((_request, n) => script[n - before - 1] ?? text('ok'))
    const env = { CLAUDE_CONFIG_DIR: at('config'), ANTHROPIC_BASE_URL: model.url, ANTHROPIC_API_KEY: 'sk-test-not-a-key-000' }
    const cli = startCli({ env, cwd: at('work'), home: folder.path, args: [`--settings=${at('settings.json')}`, ...flags] })
    await cli.turn(prompt)
    await cli.close()
    return model
      .main()
      .slice(before)
      .map(({ raw }) => raw)
      .join('\n')
  }
  const isThere = (path: string) => stat(at(path)).then(
    () => true,
    () => false,
  )

  it('imports lead anywhere from instructions, but nowhere under our lock', async () => {
    const forms = ['see @{}', '*@{}*', '\\"@{}', '`code`@{}', 'a @../{} b', '@~/{}'].map((form, i) => {
      const path = form.includes('/{}') ? `out-${i}.md` : at(`out-${i}.md`)
      return { form, text: form.replace('{}', path), secret: `${SECRET}, number ${i}.` }
    })
    for (const [i, { form, text: content, secret }] of forms.entries()) {
      await put(`out-${i}.md`, secret)
      expect(configRefusal({ kind: 'claude-md', name: '', content }), form).toMatch(/would be read/)
    }
    await put('config/CLAUDE.md', `Be kind.\n\n${forms.map(({ text: content }) => content).join('\n\n')}\n`)
    await put('config/rules/style.md', 'No semicolons. @../../outside.md')
    const seen = (all: string) => forms.filter(({ secret }) => all.includes(secret)).map(({ form }) => form)
    expect(seen(await sent({}))).toEqual(forms.map(({ form }) => form))
    const locked = await sent({ instructions: at('config') })
    expect([seen(locked), locked.includes(SECRET), locked.includes('Be kind.'), locked.includes('No semicolons.')]).toEqual([[], false, true, true])
  })

  it('the instructions of a repository count beside those of the pool where its owner trusts it, and only then', async () => {
    await put('config/CLAUDE.md', 'Be kind. @../outside.md')
    await put('work/CLAUDE.md', 'Be careful. @notes.md')
    await put('work/notes.md', 'Notes of the repository.')
    await put('work/.claude/rules/style.md', 'Be terse.')
    const flags = ['--disable-slash-commands', '--setting-sources=user,project']
    const all = await sent({ instructions: at('config'), trusted: at('work') }, { flags })
    const words = ['Be kind.', 'Be careful.', 'Notes of the repository.', 'Be terse.', SECRET]
    expect(words.filter((word) => all.includes(word))).toEqual(words.slice(0, 4))
    const strict = await sent({ instructions: at('config') })
    expect(words.filter((word) => strict.includes(word))).toEqual(['Be kind.'])
  })

  it('imports lead to no instructions of other folders where one is trusted; those above it count as they do without us', async () => {
    for (const [path, content] of [['CLAUDE.md', 'Above.'], ['.claude/rules/a.md', 'Rule above.'], ['work/sub/CLAUDE.md', 'Below.']] as const) await put(path, content)
    for (const path of ['else/CLAUDE.md', 'else/.claude/CLAUDE.md', 'else/.claude/rules/a.md']) await put(path, SECRET)
    await put('config/CLAUDE.md', 'Be kind. @../else/CLAUDE.md @../else/.claude/CLAUDE.md @../else/.claude/rules/a.md')
    await put('work/CLAUDE.md', 'Be careful.')
    const flags = ['--disable-slash-commands', '--setting-sources=user,project']
    const words = ['Be kind.', 'Be careful.', 'Above.', 'Rule above.', SECRET]
    const seen = async (parts: SettingsParts) => {
      const all = await sent(parts, { flags })
      return words.filter((word) => all.includes(word))
    }
    expect(await seen({})).toEqual(words)
    expect(await seen({ instructions: at('config'), trusted: at('work') })).toEqual(words.slice(0, 4))
  })

  it('an agent is one without a name and a description too, once it is put in its place', async () => {
    const bodies = ['Be brief.', '---\nmodel: haiku\n---\nBe brief.', "---\r\ndescription: ''\r\nname:\r\n---\r\nBe brief.", '---\nname: other\ndescription:\n  in two\n  lines\n---\nBe brief.', '---\n---\nBe brief.']
    const files = bodies.map((content, i): ConfigFile => ({ kind: 'agents', name: `a-${i}`, content }))
    for (const file of files) expect(configRefusal(file)).toBeUndefined()
    await prepareConfigDir(at('config'), [...files, { kind: 'agents', name: '1e5', content: 'Be brief.' }])
    for (const agent of ['a-0', 'a-1', 'a-2', 'other', 'a-4', '1e5']) {
      const all = await sent({}, { flags: ['--disable-slash-commands', `--agent=${agent}`] })
      expect(all, agent).toContain('Be brief.')
    }
    await put('config/agents/a-0.md', 'Be brief.')
    expect(await sent({}, { flags: ['--disable-slash-commands', '--agent=a-0'] })).not.toContain('Be brief.')
  })

  it('what may be said leads nowhere, even to a file that happens to have the name', async () => {
    const content = 'Be kind. Mail me@outside.md, use @Injectable() and @scope/name, `import "@/lib"`, "@outside" and @pytest.mark.x(1).'
    expect(configRefusal({ kind: 'claude-md', name: '', content })).toBeUndefined()
    await put('config/CLAUDE.md', content)
    for (const name of ['outside.md', 'Injectable()', 'scope/name', 'lib', 'outside']) await put(`config/${name}`, SECRET)
    const all = await sent({ instructions: at('config') })
    expect([all.includes('Be kind.'), all.includes(SECRET)]).toEqual([true, false])
  })

  const skilled = { flags: [] as string[] }
  const call = (args: string) => toolUse('Skill', { skill: 'deploy', args })

  it('a skill of the pool can be used, and no other one', async () => {
    await put('config/skills/deploy/SKILL.md', SKILL)
    expect(await sent({})).not.toContain('deploys everything')
    const all = await sent({ skills: true }, { ...skilled, script: [call('to production'), toolUse('Skill', { skill: 'update-config' }), toolUse('Skill', { skill: 'config', args: 'verbose=true' })] })
    expect(all).toContain('deploys everything')
    expect(all).toContain('The way to deploy.')
    expect(all).toContain('to production')
    expect(all).not.toContain('simplify')
    expect(await isThere('config/settings.json')).toBe(false)
  })

  it('a skill brings a file of the machine along that its caller mentions, but not under our lock', async () => {
    await put('config/skills/deploy/SKILL.md', SKILL)
    const script = [call(`see @${at('outside.md')} there`)]
    expect(await sent({}, { ...skilled, script })).toContain(SECRET)
    const locked = await sent({ skills: true }, { ...skilled, script })
    expect(locked).not.toContain(SECRET)
    expect(locked).toContain('a skill cannot be called with an @')
  })

  it('a command in a skill is run in a mode that allows it, but not under our lock', async () => {
    const content = SKILL.replace('The way', `!\`touch ${at('work/ran')}\` The way`)
    expect(configRefusal({ kind: 'skills', name: 'deploy', content })).toMatch(/command/)
    await put('config/skills/deploy/SKILL.md', content)
    await sent({ skills: true }, { ...skilled, script: [call('now')] })
    expect(await isThere('work/ran')).toBe(false)
    await sent({}, { ...skilled, script: [call('now')] })
    expect(await isThere('work/ran')).toBe(true)
  })

  it('a slash command behind a newline is text to it, with skills as well', async () => {
    await put('config/skills/deploy/SKILL.md', SKILL)
    for (const prompt of ['\n/config verbose=true', '\n/deploy now', '\n \n/config verbose=true']) {
      expect(await sent({ skills: true }, { ...skilled, prompt })).toContain(JSON.stringify(prompt.trim()).slice(1, -1))
      expect(await isThere('config/settings.json')).toBe(false)
    }
    await sent({ skills: true }, { ...skilled, prompt: '/config verbose=true' })
    expect(await isThere('config/settings.json')).toBe(true)
  })

  it('hooks of an agent are run, and nothing but its front matter stands in their way', async () => {
    const content = `---\nname: evil\ndescription: x\nhooks:\n  Stop:\n    - hooks:\n        - type: command\n          command: touch ${at('work/ran')}\n---\nBe evil.\n`
    expect(configRefusal({ kind: 'agents', name: 'evil', content })).toMatch(/not hooks/)
    await put('config/agents/evil.md', content)
    await sent({}, { flags: ['--disable-slash-commands', '--agent=evil'] })
    expect(await isThere('work/ran')).toBe(true)
  })
})
