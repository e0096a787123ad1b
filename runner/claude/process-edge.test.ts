/** What the real CLI does not do on demand: a script in its place that speaks its protocol. */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { LINE_CAP } from '../../shared/limits.ts'
import { alive, Kept, KEY, Stage } from '../../test/fixtures/cli/stage.ts'
import { text } from '../../test/model/scripted.ts'
import { ClaudeProcess } from './process.ts'
import type { Launch } from './launch.ts'

let stage: Stage
beforeAll(async () => {
  stage = await Stage.open(() => text('ok'))
})
afterAll(() => stage.close())

async function play(launch: Launch, sink = new Kept()) {
  const claude = await ClaudeProcess.prepare(launch)
  return { end: await claude.turn('hello', sink), sink }
}

describe('a process', () => {
  it('that prints what is no event is still read to its result', async () => {
    const launch = await stage.fake(
      'odd',
      `out('not json'); out('{"a":1}\\r'); process.stdout.write(Buffer.from([0x7b, 0xff, 0x7d, 0x0a]))
      out('z'.repeat(200_000)); result()`,
    )
    const { end, sink } = await play(launch)
    expect(sink.marks).toEqual([
      { kind: 'raw', encoding: 'utf8', data: 'not json' },
      { kind: 'raw', encoding: 'utf8', data: '{"a":1}\r' },
      { kind: 'raw', encoding: 'base64', data: 'e/99' },
      { kind: 'gap', reason: 'line_too_long', bytes: 200_000 },
    ])
    expect(end.result?.seq).toBe(5)
  })

  it('that prints a line of the cap has it passed on, and a longer one named', async () => {
    const size = (length: number): string => `out('{"a":"' + 'z'.repeat(${length - 8}) + '"}')`
    const { sink } = await play(await stage.fake('long', `${size(LINE_CAP)}; ${size(LINE_CAP + 1)}; result()`))
    expect(sink.lines.map((line) => line.length)).toEqual([LINE_CAP, expect.any(Number)])
    expect(sink.marks).toEqual([{ kind: 'gap', reason: 'line_too_long', bytes: LINE_CAP + 1 }])
  })

  it('that writes its key to stderr has it taken out', async () => {
    const { sink } = await play(await stage.fake('leaky', `console.error('key: ' + process.env.ANTHROPIC_API_KEY); result()`))
    expect(sink.marks).toEqual([{ kind: 'stderr', text: 'key: [redacted]\n', truncated: false }])
    expect(JSON.stringify(stage.logged)).not.toContain(KEY)
  })

  it('that asks for something is told no, so that it does not wait', async () => {
    const ask = `out({ type: 'control_request', request_id: 'q', request: { subtype: 'can_use_tool' } }); setTimeout(result, 100)`
    const { sink } = await play(await stage.fake('asking', ask))
    expect(sink.ofType('told')).toEqual([{ type: 'told', error: 'not supported' }])
    expect(sink.ofType('control_request')).toEqual([])
  })

  it('that exits without a result has none', async () => {
    expect((await play(await stage.fake('crash', `process.exit(3)`))).end).toEqual({ code: 3, signal: null, result: undefined })
  })

  it('whose first result counts when there are several', async () => {
    const error = `type: 'result', is_error: true`
    const { end } = await play(await stage.fake('many', `out({ ${error}, origin: { kind: 'x' } }); result(); out({ ${error} })`))
    expect(end.result).toMatchObject({ seq: 2, is_error: false })
  })

  it('whose first init and first result must be kept, whatever else calls itself so', async () => {
    const sink = new Kept()
    const must: (boolean | undefined)[] = []
    const line = sink.line.bind(sink)
    sink.line = (bytes, kept) => {
      must.push(kept)
      return line(bytes)
    }
    const init = `out({ type: 'system', subtype: 'init' })`
    await play(await stage.fake('forging', `${init}; out({ type: 'x' }); ${init}; result(); result(); setTimeout(() => process.exit(0), 50)`), sink)
    expect(must).toEqual([true, false, false, true, false])
  })

  it('that stays after its result is ended, and the result stands', async () => {
    const stay = `process.on('SIGTERM', () => undefined); setInterval(() => undefined, 1000); result()`
    const { end } = await play(await stage.fake('staying', stay))
    expect(end).toMatchObject({ signal: 'SIGKILL', result: { is_error: false } })
  })

  it('whose pipe is held open by a child that the sweep cannot know is not waited for', async () => {
    // No marker, and its parent is gone before anybody could note it.
    const held = `const options = { env: { PATH: process.env.PATH }, stdio: ['ignore', 'inherit', 'inherit'] }
      const end = () => { result(); setTimeout(() => process.exit(0), 50) }
      spawn('setsid', ['bash', '-c', 'env -i sleep 5 & exit'], options).on('exit', end)`
    const startedAt = performance.now()
    const { end } = await play(await stage.fake('held', held))
    expect(end).toMatchObject({ code: 0, result: { is_error: false } })
    expect(performance.now() - startedAt).toBeLessThan(4_500)
  })

  it('whose lines cannot be taken is killed', async () => {
    const sink = new Kept()
    sink.line = () => {
      throw new Error('no room')
    }
    const launch = await stage.fake('unwanted', `out({ type: 'x' }); setInterval(() => out({ type: 'x' }), 10)`)
    expect((await play(launch, sink)).end).toEqual({ code: null, signal: 'SIGKILL', result: undefined })
    expect(await alive({ marker: launch.marker })).toEqual([])
  })
})

describe('the real CLI', () => {
  it('may speak before its turn, and that is not lost', async () => {
    await mkdir(stage.configDir, { recursive: true })
    const hooks = { SessionStart: [{ hooks: [{ type: 'command', command: 'echo from-the-hook' }] }] }
    await writeFile(join(stage.configDir, 'settings.json'), JSON.stringify({ hooks }))
    const { sink } = await stage.play()
    expect(sink.ofType('system').filter(({ subtype }) => subtype === 'hook_response')).toHaveLength(1)
  })
})
