/** The real CLI through the router as a Worker: `npm run edge` in a process of its own, beside an unchanged runner. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { follow } from '../kit/follow.ts'
import { enlist, type Enlisted } from '../kit/enlist.ts'
import { newMachine, type Machine } from '../kit/processes.ts'
import { startSqld, type Sqld } from '../kit/sqld.ts'
import { idsOf, readSse } from '../kit/sse.ts'
import { until } from '../kit/wait.ts'
import { startModel, text, type Model } from '../model/scripted.ts'
import { realRuns } from './real-runs.ts'

type Json = Record<string, unknown>

describe('a run by the real CLI through the router as a Worker', () => {
  realRuns({ host: 'workers' })
})

describe.each(['D1', 'a libSQL server'])('the router as a Worker, with %s for what is shared', (shared) => {
  let machine: Machine
  let model: Model
  let sqld: Sqld | undefined
  let fleet: Enlisted

  beforeAll(async () => {
    machine = await newMachine()
    model = await startModel()
    if (shared !== 'D1') sqld = await startSqld(join(machine.home, 'sqld'))
    fleet = await enlist(machine, model, { host: 'workers', router: sqld ? [`--libsql-url=${sqld.url}`] : [] })
    await writeFile(fleet.policyFile, 'slots = 1\n')
    await fleet.online(fleet.startRunner([`--workspace=${machine.workspace}`]))
  })
  afterAll(async () => {
    await machine.close()
    await model.close()
    await sqld?.stop()
  })

  const get = async (id: string) => (await (await fleet.call(`/v1/runs/${id}`)).json()) as Json

  it('answers `runyard run`, which finds it by its data directory', async () => {
    model.script(() => text('Hello from the edge.'))
    const { code, stdout, stderr } = await machine.runyard(['run', 'Say hello.', `--data-dir=${machine.dataDir}`])
    expect([code, stdout.trim()], stderr).toEqual([0, 'Hello from the edge.'])
    expect(stderr).toContain('succeeded')
  })

  it('continues a session, and lets a second run wait for the one slot', async () => {
    model.script(() => text('I will remember.'))
    const first = await fleet.run({ prompt: 'Remember the word marmalade.' })
    expect(first).toMatchObject({ status: 'succeeded' })

    let answer: () => void = () => undefined
    const answered = new Promise<void>((resolve) => (answer = resolve))
    model.script(() => async (exchange) => {
      await answered
      await text('marmalade')(exchange)
    })
    const second = readSse(await fleet.start({ prompt: 'Which word?', session_id: first['session_id'] }))
    await model.waitFor(({ prompt, kind }) => kind === 'main' && prompt === 'Which word?')
    expect(model.main().at(-1)!.raw).toContain('Remember the word marmalade.')
    const body = JSON.stringify({ prompt: 'And I?' })
    const posted = await fleet.call('/v1/runs', { method: 'POST', body, headers: { prefer: 'respond-async' } })
    const { id } = (await posted.json()) as { id: string }
    expect(await get(id)).toMatchObject({ status: 'queued' })
    answer()
    expect(JSON.parse((await second).events.at(-1)!.data)).toMatchObject({ status: 'succeeded', session_id: first['session_id'] })
    expect((await follow(fleet, id)).at(-1)).toMatchObject({ event: 'done', data: expect.stringContaining('"succeeded"') })
    expect(await get(id)).toMatchObject({ status: 'succeeded', result: 'marmalade' })
  })

  it('loses nothing of a run over a kill -9 of workerd: the stream is resumed where it was cut', async () => {
    const words = Array.from({ length: 80 }, (_, n) => `${n} € `)
    model.script(() => text(words.join(''), { chunks: words, delayMs: 50 }))
    const response = await fleet.start({ prompt: 'Count slowly.', include_partial_messages: true })
    const id = response.headers.get('x-run-id')!
    const deltas = (events: readonly { data: string }[]) =>
      events.flatMap(({ data }) => {
        const line = JSON.parse(data) as { event?: { delta?: { text?: string } } }
        return line.event?.delta?.text ?? []
      })
    const cut = (await readSse(response, (events) => deltas(events).length >= 10)).events
    const watching = follow(fleet, id)
    expect(await get(id)).toMatchObject({ status: 'running' })
    const before = await fleet.servingPid()
    await fleet.crashRouter()
    expect(await fleet.servingPid()).not.toBe(before)

    const rest = await follow(fleet, id, Number(cut.at(-1)!.id))
    const all = [...cut, ...rest]
    expect(idsOf(all)).toEqual(all.map((_, i) => i + 1))
    expect(deltas(all).join('')).toBe(words.join(''))
    expect(JSON.parse(all.at(-1)!.data)).toMatchObject({ id, status: 'succeeded' })
    expect(model.main().filter(({ prompt }) => prompt === 'Count slowly.')).toHaveLength(1)
    // Whoever was reading when it was killed has the same, and so has who comes later.
    expect(await watching).toEqual(all)
    expect(await follow(fleet, id)).toEqual(all)
    await until('the index to say the same', async () => (await get(id))['result'] === words.join(''))
  })
})
