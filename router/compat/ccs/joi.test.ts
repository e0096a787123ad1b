import type { z } from 'zod'
import { describe, expect, it } from 'vitest'
import { joi } from './joi.ts'
import { BatchRequest, Message, TaskRequest } from './schemas.ts'

const said = (schema: z.ZodType, value: unknown) => {
  const read = schema.safeParse(value)
  return read.success ? undefined : joi(read.error).message
}

describe('what is wrong with a request', () => {
  it.each<[unknown, string | undefined]>([
    [{ prompt: 'x' }, undefined],
    [{ prompt: 'x', project_path: '', model: null, session_id: null, system_prompt: '', agent: '', mcp_config: '' }, undefined],
    [{}, '"prompt" is required'],
    [{ prompt: '' }, '"prompt" is not allowed to be empty'],
    [{ prompt: ' \n' }, '"prompt" is not allowed to be empty'],
    [{ prompt: 5 }, '"prompt" must be a string'],
    [{ prompt: null }, '"prompt" must be a string'],
    [{ prompt: 'x'.repeat(1_048_577) }, '"prompt" length must be less than or equal to 1048576 characters long'],
    [{ prompt: 'x', foo: 1 }, '"foo" is not allowed'],
    [{ foo: 1 }, '"prompt" is required'],
    [{ prompt: 'x', priority: 11 }, '"priority" must be less than or equal to 10'],
    [{ prompt: 'x', priority: 0 }, '"priority" must be greater than or equal to 1'],
    [{ prompt: 'x', priority: 1.5 }, '"priority" must be an integer'],
    [{ prompt: 'x', priority: 'high' }, '"priority" must be a number'],
    [{ prompt: 'x', max_budget_usd: -1 }, '"max_budget_usd" must be greater than or equal to 0'],
    [{ prompt: 'x', allowed_tools: 'Read' }, '"allowed_tools" must be an array'],
    [{ prompt: 'x', allowed_tools: [1] }, '"allowed_tools[0]" must be a string'],
    [{ prompt: 'x', disallowed_tools: ['--evil'] }, '"disallowed_tools[0]" is not a tool name or a rule like Bash(git log:*)'],
    [{ prompt: 'x', stream: 'yes' }, '"stream" must be a boolean'],
    [{ prompt: 'x', webhook_url: 'not a url' }, '"webhook_url" must be a valid uri'],
    [{ prompt: 'x', webhook_url: 'file:///etc/passwd' }, '"webhook_url" must be a valid uri'],
    [{ prompt: 'x', permission_mode: 'yolo' }, '"permission_mode" must be one of [default, acceptEdits, plan, dontAsk, bypassPermissions]'],
    [{ prompt: 'x', model: '--model' }, '"model" is not a model name'],
    [[], '"value" must be of type object'],
    ['text', '"value" must be of type object'],
  ])('of %j is %s', (body, words) => {
    expect(said(Message, body)).toBe(words)
  })

  it.each([
    [{ priority: '7', max_budget_usd: ' 1.5e0 ', stream: 'True', async: 'false' }, { priority: 7, max_budget_usd: 1.5, stream: true, async: false }],
    [{ priority: '', max_budget_usd: null, stream: '' }, {}],
  ])('is not that %j has the types of a form', (form, read) => {
    expect(Message.parse({ prompt: 'x', ...form })).toEqual({ prompt: 'x', ...read })
  })

  it('is that a number or a boolean is neither', () => {
    for (const priority of ['0x7', '7a', '--7', '.', 'Infinity']) expect(said(Message, { prompt: 'x', priority })).toBe('"priority" must be a number')
    expect(said(Message, { prompt: 'x', priority: '7.5' })).toBe('"priority" must be an integer')
    for (const stream of ['yes', 1, '0']) expect(said(Message, { prompt: 'x', stream })).toBe('"stream" must be a boolean')
  })

  it('names a field of a field by its path', () => {
    expect(said(TaskRequest, { prompt: 'x', metadata: { max_budget_usd: 'much' } })).toBe('"metadata.max_budget_usd" must be a number')
    expect(said(TaskRequest, { prompt: 'x', metadata: { a: [1] } })).toBe('"metadata.a" does not match any of the allowed types')
    expect(said(TaskRequest, { prompt: 'x', metadata: Object.fromEntries(Array.from({ length: 33 }, (_, i) => [`k${i}`, i])) })).toBe('"metadata" must have less than or equal to 32 keys')
    expect(said(BatchRequest, { prompts: Array.from({ length: 11 }, () => 'x') })).toBe('"prompts" must contain less than or equal to 10 items')
    expect(said(TaskRequest, { prompt: 'x', metadata: 'text' })).toBe('"metadata" must be of type object')
  })
})
