import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { startCli, tempFolder } from '../../test/model/claude.ts'
import { startDemoModel } from './model.ts'

let model: Awaited<ReturnType<typeof startDemoModel>>
beforeAll(async () => {
  model = await startDemoModel()
})
afterAll(() => model.close())

function ask(
  body: string | object,
  headers: Record<string, string> = { 'x-api-key': model.token },
  path = '/v1/messages?beta=true',
): Promise<Response> {
  return fetch(`${model.url}${path}`, { method: 'POST', body: typeof body === 'string' ? body : JSON.stringify(body), headers })
}

const Written = z.object({ content: z.array(z.looseObject({ input: z.object({ file_path: z.string() }).optional() })) })
const hello = { model: 'any', messages: [{ role: 'user', content: 'hello there\nsecond line' }] }

describe('the demo model', () => {
  it('says what it is and repeats the first line of the prompt', async () => {
    const answer = await (await ask(hello)).text()
    expect(answer).toContain('demo model, not Claude')
    expect(answer).toContain('You wrote: hello there')
    expect(answer).not.toContain('second line')
  })

  it('streams in several deltas', async () => {
    const sse = await (await ask({ ...hello, stream: true })).text()
    expect(sse.match(/^event: content_block_delta$/gm)?.length).toBeGreaterThan(3)
    expect(sse.endsWith('\n\n')).toBe(true)
  })

  it('refuses calls without its own token', async () => {
    expect((await ask(hello, {})).status).toBe(401)
    expect((await ask(hello, { 'x-api-key': 'demo-other' })).status).toBe(401)
    expect((await ask(hello, { 'x-api-key': 'x'.repeat(model.token.length) })).status).toBe(401)
    expect((await ask(hello, { authorization: `Bearer ${model.token}` })).status).toBe(401)
  })

  it('refuses what is not a Messages request, and other routes', async () => {
    expect((await ask('{')).status).toBe(400)
    expect((await ask({ messages: 'x' })).status).toBe(400)
    expect((await ask(hello, undefined, '/v1/complete')).status).toBe(404)
    expect(await (await ask(hello, undefined, '/v1/messages/count_tokens')).json()).toEqual({ input_tokens: expect.any(Number) })
  })

  it.each([
    ['write hello.txt', 'hello.txt'],
    ['Please create a file called notes/day-1.md with a list', 'notes/day-1.md'],
    ['write about node.js in general', 'node.js'],
    ['write /etc/cron.d/evil.sh', undefined],
    ['write ../outside.txt', undefined],
    ['write ~/.bashrc.txt', undefined],
    ['write a poem', undefined],
    ['read hello.txt', undefined],
  ])('takes %j as a wish for the file %j', async (content, file) => {
    const body: unknown = await (
      await ask({ model: 'm', tools: [{ name: 'Write' }], messages: [{ role: 'user', content }] })
    ).json()
    expect(Written.parse(body).content.at(-1)?.input?.file_path).toBe(file)
  })

  it('does not call a tool that the run does not have', async () => {
    const body: unknown = await (
      await ask({ model: 'm', tools: [], messages: [{ role: 'user', content: 'write hello.txt' }] })
    ).json()
    expect(body).toMatchObject({ stop_reason: 'end_turn' })
  })

  it('carries the real CLI through a turn that writes a file and a plain one after it', async () => {
    const folder = await tempFolder()
    const home = await tempFolder()
    const cli = startCli({
      env: { ANTHROPIC_BASE_URL: model.url, ANTHROPIC_API_KEY: model.token },
      cwd: folder.path,
      home: home.path,
    })
    try {
      const wrote = await cli.turn('write hello.txt')
      expect(wrote).toMatchObject({ is_error: false, num_turns: 2 })
      expect(await readFile(join(folder.path, 'hello.txt'), 'utf8')).toContain('Runyard demo model')
      expect((await cli.turn('and now?')).result).toContain('You wrote: and now?')
    } finally {
      await cli.close()
      await Promise.all([folder.remove(), home.remove()])
    }
  })
})
