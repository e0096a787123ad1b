/** A copy of the database of a router that is at work, and a router that goes on from it: the built product. */
import { copyFile, mkdir, readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { enlist, type Enlisted } from '../kit/enlist.ts'
import { newMachine, type Machine } from '../kit/processes.ts'
import { readSse } from '../kit/sse.ts'
import { startModel, text, type Model } from '../model/scripted.ts'

type Json = Record<string, unknown>

describe('runyard backup', () => {
  let machine: Machine
  let model: Model
  let fleet: Enlisted
  let copy = ''
  beforeAll(async () => {
    machine = await newMachine()
    model = await startModel()
    fleet = await enlist(machine, model)
    await fleet.online(fleet.startRunner([`--workspace=${machine.workspace}`]))
    copy = join(machine.home, 'copy.db')
  })
  afterAll(async () => {
    await machine.close()
    await model.close()
  })
  const command = (...args: string[]) => machine.runyard(['backup', copy, `--data-dir=${machine.dataDir}`, ...args])

  it('copies while runs stream, and a router that is started from the copy shows the same runs', async () => {
    model.script(() => text('kept', { chunks: 3 }))
    for (const prompt of ['One.', 'Two.']) await fleet.run({ prompt })
    model.script(() => text('many words '.repeat(2_000), { chunks: 2_000 }))
    const streaming = fleet.start({ prompt: 'While it streams.', include_partial_messages: true }).then(readSse)
    const { code, stdout, stderr } = await command('--with-keys', '--json')
    expect([code, JSON.parse(stdout)]).toMatchObject([0, { event: 'backup', file: copy, bytes: expect.any(Number), duration_ms: expect.any(Number) }])
    expect(stderr).toContain('whoever has these files can mint tokens')
    expect((await stat(copy)).mode & 0o777).toBe(0o600)
    expect(JSON.parse((await streaming).events.at(-1)!.data)).toMatchObject({ status: 'succeeded' })

    const restored = join(machine.home, 'restored')
    await mkdir(restored, { mode: 0o700 })
    await copyFile(copy, join(restored, 'runyard.db'))
    for (const name of ['signing-key.json', 'master-key.json']) await copyFile(`${copy}.${name}`, join(restored, name))
    const router = machine.start(['router', '--json', '--port=0', `--data-dir=${restored}`])
    const { url } = await router.event('ready')
    // A token of the old router: its signing key came along.
    const ask = async (path: string) => (await (await fetch(url + path, { headers: { authorization: `Bearer ${fleet.token}` } })).json()) as Json
    const { data: runs } = (await ask('/v1/runs')) as { data: Json[] }
    const ended = runs.filter((run) => run['status'] === 'succeeded')
    expect(ended.length).toBeGreaterThanOrEqual(2)
    for (const { id } of ended) {
      const before = (await (await fleet.call(`/v1/runs/${String(id)}`)).json()) as Json
      expect(await ask(`/v1/runs/${String(id)}`)).toEqual(before)
    }
    expect((await ask(`/v1/runs/${String(ended.at(-1)!['id'])}`))['result']).toBe('kept')
  })

  it('says why not, by its exit code and in a sentence', async () => {
    const again = await command()
    expect([again.code, again.stderr]).toEqual([1, expect.stringContaining(`${copy} is there already; nothing is overwritten`)])
    const nowhere = await machine.runyard(['backup', join(machine.home, 'b.db'), `--data-dir=${join(machine.home, 'nowhere')}`, '--json'])
    expect([nowhere.code, JSON.parse(nowhere.stdout)]).toMatchObject([78, { event: 'error', message: expect.stringContaining('there is no database in') }])
    expect((await machine.runyard(['backup'])).code).toBe(2)
    expect((await readdir(machine.home)).filter((name) => name.includes('partial'))).toEqual([])
  })
})
