import { readFile } from 'node:fs/promises'
import { describe, expect, it } from 'vitest'
import { parsePolicy, Policy } from './policy.ts'

/** Said in words: two depend on the machine, one is long. */
const IN_WORDS: Record<string, string> = { slots: '2 × cores', permission_modes: 'all but bypass', warm_memory_mb: '2048, or a quarter of the memory' }

describe('docs/runner.md', () => {
  it('has every key of runner.toml, in order, with the default that holds', async () => {
    const text = await readFile(new URL('../docs/runner.md', import.meta.url), 'utf8')
    const section = text.slice(text.indexOf('\n## Policy\n'), text.indexOf('\n## What a run can'))
    const shown = [...section.matchAll(/^\| `(\w+)` \| ([^|]+) \|/gm)].map(([, key, value]) => [key, value?.trim()])
    const defaults = new Map<string, unknown>(Object.entries(parsePolicy('', 'runner.toml')))
    const inForce = Object.keys(Policy.shape).map((key) => {
      const value = defaults.get(key)
      return [key, IN_WORDS[key] ?? (value === undefined ? 'none' : `\`${JSON.stringify(value)}\``)]
    })
    expect(shown).toEqual(inForce)
  })
})
