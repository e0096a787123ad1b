import { spawn } from 'node:child_process'
import { once } from 'node:events'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Effort, PermissionMode, type RunSpec } from '../../shared/run-spec.ts'
import { claudeArgv, type ClaudeFiles } from './argv.ts'
import { claudeSettings } from './settings.ts'

const FLAGS = (
  '--input-format --output-format --verbose --setting-sources --strict-mcp-config --disable-slash-commands -p ' +
  '--permission-mode --settings --model --fallback-model --effort --agent --max-turns --max-budget-usd ' +
  '--tools --mcp-config --add-dir --include-partial-messages --session-id --resume --fork-session'
).split(' ')
const ID = '0123abcd-0000-4000-8000-000000000001'
const FROM = '0123abcd-0000-4000-8000-000000000002'
const base: RunSpec = { tenant: 't', prompt: 'p', timeout_s: 1, session: { mode: 'new', id: ID } }
const argv = (spec: Partial<RunSpec> = {}, files: ClaudeFiles = { settings: '/p/settings.json' }): string[] =>
  claudeArgv({ ...base, ...spec }, files)

/** Worse than the schema lets through: argv must hold by itself. */
const hostile = fc.oneof(
  fc.constantFrom('--dangerously-skip-permissions', '-p', '--', '', ' --model=x', 'a --bg b', '=', '\n--bg', '--settings={}'),
  fc.string({ unit: 'grapheme', maxLength: 30 }),
)
const text = hostile.map((part) => `private ${part}`)
const optional = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: undefined })
const specs = fc.record({
  model: optional(hostile),
  fallback_model: optional(hostile),
  agent: optional(hostile),
  tools: optional(fc.array(hostile)),
  allowed_tools: optional(fc.array(text)),
  disallowed_tools: optional(fc.array(text)),
  permission_mode: optional(fc.constantFrom(...PermissionMode.options)),
  effort: optional(fc.constantFrom(...Effort.options)),
  max_turns: optional(fc.integer({ min: 1 })),
  max_budget_usd: optional(fc.double({ min: 1e-9, max: 1e5, noNaN: true })),
  system_prompt: optional(text),
  append_system_prompt: optional(text),
  prompt: text,
  include_partial_messages: optional(fc.boolean()),
  agents: optional(fc.dictionary(text, fc.constant({}))),
  json_schema: optional(fc.dictionary(text, fc.constant({}))),
  mcp_config: optional(fc.dictionary(text, fc.constant({}))),
  session: fc.constantFrom<RunSpec['session'][]>(
    { mode: 'new', id: ID },
    { mode: 'resume', id: ID },
    { mode: 'fork', id: ID, from: FROM },
  ),
})

describe('the command line', () => {
  it('has only known flags, each once, each with its value in its own token', () => {
    fc.assert(
      fc.property(specs, (spec) => {
        const args = claudeArgv({ ...base, ...defined(spec) }, { settings: '/p/settings.json' })
        const names = args.map((arg) => arg.split('=', 1)[0])
        expect(names.filter((name) => !FLAGS.includes(name ?? ''))).toEqual([])
        expect(new Set(names).size).toBe(names.length)
        expect(args.filter((arg) => arg.startsWith('--model'))).toEqual(spec.model === undefined ? [] : [`--model=${spec.model}`])
      }),
    )
  })

  it('never has the prompt, a text or a rule of the caller', () => {
    fc.assert(
      fc.property(specs, (spec) => {
        expect(claudeArgv({ ...base, ...defined(spec) }, { settings: '/p/settings.json' }).join('\0')).not.toContain('private ')
      }),
    )
  })

  it('is the same for every plain run, and does not begin with -p', () => {
    expect(argv()).toEqual([
      '--input-format=stream-json',
      '--output-format=stream-json',
      '--verbose',
      '--strict-mcp-config',
      '--disable-slash-commands',
      '-p',
      '--setting-sources=user',
      '--permission-mode=default',
      '--settings=/p/settings.json',
      `--session-id=${ID}`,
    ])
  })

  it('has the settings of a repository read where the owner trusts it, and no others', () => {
    const trusting = claudeArgv(base, { settings: '/p/settings.json' }, { trusted: true })
    expect(trusting.filter((arg) => !argv().includes(arg))).toEqual(['--setting-sources=user,project'])
    expect(trusting).toContain('--strict-mcp-config')
    expect(claudeSettings(base, { trusted: '/w' })).toEqual({ ...claudeSettings(base), apiKeyHelper: '' })
  })

  it('lets commands by slash be where the pool has skills, and nowhere else', () => {
    const skilled = claudeArgv(base, { settings: '/p/settings.json' }, { skills: true })
    expect(argv().filter((arg) => !skilled.includes(arg))).toEqual(['--disable-slash-commands'])
  })

  it('names the session to begin, to resume or to fork', () => {
    expect(argv({ session: { mode: 'resume', id: ID } }).slice(-1)).toEqual([`--resume=${ID}`])
    const fork = argv({ session: { mode: 'fork', id: ID, from: FROM } })
    expect(fork.slice(-3)).toEqual([`--resume=${FROM}`, '--fork-session', `--session-id=${ID}`])
  })

  it('takes all built-in tools away for an empty list', () => {
    expect(argv({ tools: [] })).toContain('--tools=')
    expect(argv({ tools: ['Bash', 'Read'] })).toContain('--tools=Bash,Read')
    expect(argv().some((arg) => arg.startsWith('--tools'))).toBe(false)
  })

  it('names the file of MCP servers where there is one', () => {
    expect(argv({}, { settings: '/s', mcpConfig: '/p/mcp.json' })).toContain('--mcp-config=/p/mcp.json')
  })
})

describe('the settings file', () => {
  it('has each rule as one entry', () => {
    const rules = { allowed_tools: ['Read(a) Write(b)', 'Bash(git log:*)'], disallowed_tools: ['WebFetch'] }
    expect(claudeSettings({ ...base, ...rules })).toEqual({
      permissions: { allow: ['Read(a) Write(b)', 'Bash(git log:*)'], deny: ['WebFetch'] },
      cleanupPeriodDays: 36_500,
    })
    expect(claudeSettings(base)).toEqual({ permissions: { allow: [], deny: [] }, cleanupPeriodDays: 36_500 })
  })

  it('keeps tools out of what is closed, whatever it is called, beside what the run gives up itself', () => {
    const { deny } = claudeSettings({ ...base, disallowed_tools: ['Bash'] }, { closed: ['/a (b)*/é', '/c'] }).permissions
    expect(deny.slice(0, 5)).toEqual(['Bash', 'Read(//a??b??/é)', 'Read(//a??b??/é/**)', 'Edit(//a??b??/é)', 'Edit(//a??b??/é/**)'])
    expect(deny.slice(5)).toEqual(['Read(//c)', 'Read(//c/**)', 'Edit(//c)', 'Edit(//c/**)'])
  })

  it('has imports lead nowhere but to the instructions themselves, whatever their folder is called', () => {
    expect(claudeSettings(base, { instructions: '/var/x,{y}' }).claudeMdExcludes).toEqual(['!{/var/x??y?/CLAUDE.md,/var/x??y?/rules/*.md}'])
    expect(claudeSettings(base, { instructions: '/c', trusted: '/a,/w' }).claudeMdExcludes).toEqual([
      '!{/c/CLAUDE.md,/c/rules/*.md,/a?/w/**,/a?/CLAUDE.md,/a?/.claude/CLAUDE.md,/a?/.claude/rules/**,/CLAUDE.md,/.claude/CLAUDE.md,/.claude/rules/**}',
    ])
  })

  it('lets a skill be called with words, but with no mention of a file', async () => {
    const { hooks, ...locks } = claudeSettings(base, { skills: true })
    expect(locks).toMatchObject({ disableBundledSkills: true, disableSkillShellExecution: true })
    const command = hooks!.PreToolUse[0].hooks[0].command
    const asked = async (input: object) => {
      const child = spawn('/bin/sh', ['-c', command], { stdio: ['pipe', 'ignore', 'ignore'] })
      child.stdin.end(JSON.stringify({ cwd: '/home/me@work', tool_name: 'Skill', ...input }))
      const [code] = (await once(child, 'exit')) as [number]
      return code
    }
    expect(await asked({ tool_input: { skill: 'deploy', args: 'to production' }, tool_use_id: 'toolu_1' })).toBe(0)
    expect(await asked({ tool_input: { skill: 'deploy', args: 'see @/etc/passwd' }, tool_use_id: 'toolu_1' })).toBe(2)
    expect(await asked({ tool_input: { skill: 'deploy', args: 'two\n@/etc/passwd' } })).toBe(2)
    expect(await asked({})).toBe(2)
  })
})

type Defined<T> = { [K in keyof T]?: Exclude<T[K], undefined> }

function defined<T extends object>(spec: T): Defined<T> {
  return Object.fromEntries(Object.entries(spec).filter(([, value]) => value !== undefined)) as Defined<T>
}
