import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { configRefusal, descriptionOf } from './config-content.ts'
import type { ConfigKind } from './config-files.ts'

const refusal = (kind: ConfigKind, content: string) => configRefusal({ kind, name: kind === 'claude-md' ? '' : 'x', content })
const agent = (front: string) => `---\nname: x\ndescription: y\n${front}\n---\nBe brief.\n`

describe('the front matter of a file of a pool', () => {
  it.each<[ConfigKind, string]>([
    ['agents', agent('tools: Read, Grep\nmodel: sonnet\ncolor: blue')],
    ['agents', '---\r\nname: x\r\ndescription: |\r\n  Two\r\n  lines: of it\r\n---\r\nBody'],
    ['skills', '---\nname: deploy\ndescription: "Deploys: all"\nmetadata:\n  author: me\n---\nDo it.'],
    ['rules', '---\npaths:\n- src/**\n- test/**\n---\nNo semicolons.'],
    ['rules', 'No front matter, and --- in the middle\n---\nhooks: none'],
    ['claude-md', '----\nA ruler is none.'],
  ])('of %s may say %j', (kind, content) => {
    expect(refusal(kind, content)).toBeUndefined()
  })

  it.each<[ConfigKind, string]>([
    ['agents', agent('hooks:\n  Stop:\n    - hooks:\n        - type: command\n          command: id')],
    ['agents', agent('mcpServers:\n  - x')],
    ['agents', agent('permissionMode: bypassPermissions')],
    ['agents', agent('initialPrompt: /config x=y')],
    ['agents', agent('"hooks": {}')],
    ['agents', agent('? hooks\n: {}')],
    ['agents', agent('{hooks: {}}')],
    ['agents', agent('<<: *x')],
    ['agents', agent('metadata:\n  hooks: {}')],
    ['agents', agent('- hooks: {}')],
    ['agents', agent('%YAML 1.1')],
    ['agents', '---\n  hooks: {}\n---\nBody'],
    ['agents', '---\nname: x\u2028hooks: {}\n---\nBody'],
    ['agents', '---\nname: x\rhooks: {}\n---\nBody'],
    ['agents', '\ufeff---\nhooks: {}\n---\nBody'],
    ['agents', '---\nhooks: {}\nx: ---\nBody'],
    ['agents', '---\nhooks: {}\nBody without an end'],
    ['skills', '---\nname: x\nallowed-tools: Bash(rm *)\n---\nBody'],
    ['skills', '---\nname: x\nshell: bash\n---\nBody'],
    ['rules', '---\nhooks: {}\n---\nBody'],
  ])('of %s may not say %j', (kind, content) => {
    expect(refusal(kind, content)).toMatch(/front matter|no text/)
  })

  it('tells what the file is for', () => {
    expect(descriptionOf('---\nname: x\ndescription: "It\'s quoted"\n---\n')).toBe("It's quoted")
    expect(descriptionOf('---\r\ndescription:  plain \r\n---\r\n')).toBe('plain')
    expect(descriptionOf('---\nname: x\n---\ndescription: not here')).toBeNull()
    expect(descriptionOf('a\n---\ndescription: not here\n---\n')).toBeNull()
  })
})

describe('what a file of a pool says', () => {
  it.each([
    'Write to me@example.com or @param, @Injectable() and `@types/node`.',
    'Import it as `import x from "@/lib/x.ts"` or with \'@/lib\'.',
    '@app.route("/x")\ndef f(): ...',
    '@pytest.mark.parametrize("a", [1])',
    'Mention @alice, please.',
  ])('may have %j', (content) => {
    expect(refusal('claude-md', content)).toBeUndefined()
    expect(refusal('rules', content)).toBeUndefined()
  })

  it.each([
    '@/etc/passwd',
    'see @~/.ssh/id_rsa',
    '@./notes',
    '@../.credentials.json',
    '@.credentials.json',
    'x\t@notes.md',
    '*@/etc/passwd*',
    'a*@b*@/etc/passwd',
    '\\"@/etc/passwd',
    '`code`@/etc/passwd',
    '[a](b)@settings.json#x',
    '@a/../../etc/passwd',
    '@a\\ b.md',
    '@notes.md*x*',
    `@${'a/'.repeat(200)}x`,
  ])('may not have %j, which names a file', (content) => {
    expect(refusal('claude-md', content)).toMatch(/would be read as a file/)
    expect(refusal('skills', content)).toMatch(/would be read as a file/)
  })

  it.each(['Run !`id` first', '```!\nid\n```', '!`x'])('may not have %j in a skill, which is a command', (content) => {
    expect(refusal('skills', content)).toMatch(/command/)
  })

  it('leads to no folder of the workspace in a skill', () => {
    expect(refusal('skills', 'see @src/x')).toMatch(/would be read/)
    expect(refusal('skills', 'see `@src/x`')).toBeUndefined()
  })

  it('is a text', () => {
    for (const bad of ['\u0000', '\u001b[1m', '\r', '\ud800']) expect(refusal('agents', `a${bad}b`)).toBeDefined()
    expect(refusal('agents', 'a\tb\r\nc 漢字 😀')).toBeUndefined()
  })

  it('is looked at in a moment, however hostile it is', () => {
    for (const hostile of ['@'.repeat(500_000), '@a.'.repeat(160_000), `@${'\\'.repeat(499_000)}`, '---\n'.repeat(120_000), '!'.repeat(500_000)]) {
      const begun = performance.now()
      refusal('skills', hostile)
      refusal('claude-md', hostile)
      expect(performance.now() - begun).toBeLessThan(1_500)
    }
  })

  /** As the CLI looks for imports, in every text that Markdown may make of it: found in 2.1.197. */
  function imports(text: string): string[] {
    return text.split(/[*_`[\]()<>!\\]/).flatMap((part) => [...part.matchAll(/(?:^|\s)@((?:[^\s\\]|\\ )+)/g)].map(([, path = '']) => path.split('#')[0] ?? ''))
  }

  it('has no import that leads out of the config directory, or to a hidden file in it', () => {
    const bits = fc.constantFrom('@', '/', '.', '..', '~', 'etc', 'a', '*', '_', '`', ' ', '\n', '\\', '#', '.md', '.json', '"', '(', ')', '!', '[', ']')
    fc.assert(
      fc.property(fc.array(bits, { maxLength: 24 }), (parts) => {
        const content = `x${parts.join('')}`
        if (refusal('claude-md', content) !== undefined) return
        for (const path of imports(content)) {
          expect(path).not.toMatch(/^[~/.]|\/\./)
          expect(path).not.toMatch(/\.(?:md|json)$/)
        }
      }),
      { numRuns: 20_000 },
    )
  })
})
