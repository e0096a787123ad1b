import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { configRefusal, descriptionOf } from '../shared/config-content.ts'
import { agentFile } from './agent-file.ts'

describe('the file of an agent', () => {
  const NAMED = 'name: "a-1"\n'
  const SAID = 'description: "a-1"\n'
  it.each([
    ['Be brief.', `---\n${NAMED}${SAID}---\nBe brief.`],
    ['---\n---\nBe brief.', `---\n${NAMED}${SAID}---\nBe brief.`],
    ['---\nmodel: haiku\n---\nB', `---\n${NAMED}${SAID}model: haiku\n---\nB`],
    ['---\nname: x\n---\nB', `---\n${SAID}name: x\n---\nB`],
    ['---\ndescription: x\nname:\n---\nname: y', `---\n${NAMED}description: x\n---\nname: y`],
    ['---\r\nname: x\r\ndescription: ""\r\n---\r\nB', `---\r\n${SAID}name: x\r\n---\r\nB`],
  ])('is given what it lacks: %j', (content, whole) => {
    expect(agentFile({ name: 'a-1', content })).toBe(whole)
  })

  it.each(['---\nname: x\ndescription: y\n---\nB', '---\ndescription: |\n  many\n  words\nname: x\n---\n', '---\ndescription:\n  many\nname: x\n---\n'])('is left as it is: %j', (content) => {
    expect(agentFile({ name: 'a-1', content })).toBe(content)
  })

  it('may still be kept, says something, and is whole after one time', () => {
    const line = fc.constantFrom('---', 'name: x', 'name:', 'description: y', "description: ''", 'model: haiku', '', 'Be brief.', '  further in', '# note')
    fc.assert(
      fc.property(fc.array(line, { maxLength: 7 }), fc.constantFrom('\n', '\r\n'), (lines, end) => {
        const content = lines.join(end)
        if (configRefusal({ kind: 'agents', name: 'a-1', content }) !== undefined) return
        const whole = agentFile({ name: 'a-1', content })
        expect(configRefusal({ kind: 'agents', name: 'a-1', content: whole })).toBeUndefined()
        expect(descriptionOf(whole) === null && !whole.includes('further in')).toBe(false)
        expect(agentFile({ name: 'a-1', content: whole })).toBe(whole)
      }),
    )
  })
})
