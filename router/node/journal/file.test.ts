import { mkdtemp, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { JournalFile } from './file.ts'

let dir: string
let path: string
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'runyard-journal-'))
  path = join(dir, 'a.journal')
})
afterEach(() => rm(dir, { recursive: true, force: true }))

const someRecords = fc.array(fc.string({ minLength: 1, maxLength: 40 }), { minLength: 1, maxLength: 12 })
const bytes = (text: string) => [Buffer.from(text)]
const texts = (found: { records: readonly Buffer[] } | undefined) => found?.records.map((record) => record.toString())

async function read() {
  const file = await JournalFile.open(path)
  try {
    return await file.read()
  } finally {
    await file.close(false)
  }
}

async function written(use: number, groups: readonly (readonly string[])[]): Promise<void> {
  const file = await JournalFile.open(path)
  file.begin(use)
  for (const group of groups) await file.write(group.map(bytes))
  await file.close(false)
}

describe('a file of the journal', () => {
  it('gives back what was written, in its order, also without being closed', async () => {
    const file = await JournalFile.open(path)
    file.begin(7)
    expect((await file.write([[Buffer.from('one '), Buffer.from('two')], bytes('three')])).map(String)).toEqual(['one two', 'three'])
    await file.write([bytes('four')])
    const found = await read()
    expect([found?.use, texts(found)]).toEqual([7, ['one two', 'three', 'four']])
    await file.close(false)
  })

  it('grows in steps, and can be read by its owner only', async () => {
    const step = 1024 * 1024
    await written(1, [['one']])
    const { size, mode } = await stat(path)
    expect([size, mode & 0o777]).toEqual([step, 0o600])
    await written(2, [['two'], ['x'.repeat(step), 'y'.repeat(step)], ['three']])
    expect((await stat(path)).size).toBe(3 * step)
    expect(texts(await read())?.map((text) => text.length)).toEqual([3, step, step, 5])
  })

  it('is empty when it was never begun', async () => {
    await (await JournalFile.open(path)).close(false)
    expect(await read()).toBeUndefined()
  })

  it('has nothing of an earlier use, whatever that left behind', async () => {
    await written(1, [['the same', 'more'], ['and more']])
    await written(2, [['the same']])
    expect(await read()).toMatchObject({ use: 2 })
    expect(texts(await read())).toEqual(['the same'])
  })

  it('is as it was until a new use is written', async () => {
    await written(1, [['one', 'two']])
    const file = await JournalFile.open(path)
    file.begin(2)
    await file.close(false)
    expect([(await read())?.use, texts(await read())]).toEqual([1, ['one', 'two']])
  })

  it('ends before the first record that is not whole or not what was written', async () => {
    await fc.assert(
      fc.asyncProperty(someRecords, fc.nat(), fc.boolean(), async (records, at, cuts) => {
        await rm(path, { force: true })
        await written(1, [records])
        const whole = await readFile(path)
        const used = 16 + records.reduce((sum, text) => sum + 8 + Buffer.byteLength(text), 0)
        const place = at % used
        if (cuts) await truncate(path, place)
        else await writeFile(path, whole.with(place, whole[place]! ^ 0x40))
        const found = texts(await read()) ?? []
        expect(records.slice(0, found.length)).toEqual(found)
        expect(found.length).toBeLessThan(records.length)
      }),
      { numRuns: 60 },
    )
  })

  it('is gone when nobody needs it', async () => {
    const file = await JournalFile.open(path)
    await file.close(true)
    await expect(stat(path)).rejects.toMatchObject({ code: 'ENOENT' })
  })
})
