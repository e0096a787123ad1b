import { randomUUID } from 'node:crypto'
import { mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { WarmRecords } from './record.ts'

describe('what is on disk of processes that outlive a run', () => {
  let stateDir: string
  let told: string[]
  const open = () => new WarmRecords(stateDir, (message) => told.push(message))
  beforeEach(async () => {
    stateDir = await mkdtemp(join(tmpdir(), 'runyard-warm-'))
    told = []
  })
  afterEach(() => rm(stateDir, { recursive: true, force: true }))

  it('is found by the next process of the runner, until it is removed', async () => {
    const [a, b] = [{ marker: randomUUID(), folder: '/srv/a' }, { marker: randomUUID() }]
    const before = open()
    expect([await before.write(a), await before.write(b)]).toEqual([true, true])
    expect(before.markers).toEqual([a.marker, b.marker])
    expect((await stat(join(stateDir, 'warm', `${a.marker}.json`))).mode & 0o777).toBe(0o600)
    expect(await before.leftBehind()).toEqual([])

    const after = open()
    expect(await after.leftBehind()).toEqual(expect.arrayContaining([a, { ...b, folder: undefined }]))
    await after.remove(a.marker)
    await after.remove(b.marker)
    expect([await after.leftBehind(), await readdir(join(stateDir, 'warm'))]).toEqual([[], []])
  })

  it('is nothing where there never was any', async () => {
    expect(await open().leftBehind()).toEqual([])
  })

  it('has the folder no more when that was given to a session', async () => {
    const marker = randomUUID()
    const before = open()
    await before.write({ marker, folder: '/srv/a' })
    await before.write({ marker })
    expect(await open().leftBehind()).toEqual([{ marker, folder: undefined }])
  })

  it.each(['', '{', '{"folder":1}', '{"folder":"here"}'])('is still its marker when it says %j, and no other file is one', async (text) => {
    const marker = randomUUID()
    const before = open()
    await before.write({ marker })
    await writeFile(join(stateDir, 'warm', `${marker}.json`), text)
    await writeFile(join(stateDir, 'warm', 'notes.txt'), text)
    expect(await open().leftBehind()).toEqual([{ marker, folder: undefined }])
  })

  it('is told of once when it cannot be written, and tried again for the next', async () => {
    await writeFile(join(stateDir, 'warm'), '')
    const records = open()
    expect([await records.write({ marker: randomUUID() }), await records.write({ marker: randomUUID() })]).toEqual([false, false])
    expect(told.filter((message) => message.startsWith('no CLI is kept'))).toHaveLength(1)
    expect(records.markers).toEqual([])
    await rm(join(stateDir, 'warm'))
    expect(await records.write({ marker: randomUUID() })).toBe(true)
  })
})
