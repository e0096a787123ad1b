import type * as Fs from 'node:fs'
import type * as FsPromises from 'node:fs/promises'
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import type * as ProcessTable from './process-table.ts'

type Callback = (error: Error | null, text?: string) => void

/** How a look at this machine fails. `times`: how often from now on. */
const failing = vi.hoisted(() => ({ path: '', code: '', times: 0, open: 0, mostOpen: 0 }))
const fails = (path: unknown): boolean => path === failing.path && failing.times-- > 0
const failed = (): Error => Object.assign(new Error(failing.code), { code: failing.code })

vi.mock('node:fs', async (original) => {
  const fs = await original<typeof Fs>()
  const readFile = (path: string, encoding: BufferEncoding, callback: Callback): void => {
    if (fails(path)) return callback(failed())
    failing.mostOpen = Math.max(failing.mostOpen, ++failing.open)
    fs.readFile(path, encoding, (error, text) => {
      failing.open--
      callback(error, text)
    })
  }
  return { ...fs, readFile }
})
vi.mock('node:fs/promises', async (original) => {
  const fs = await original<typeof FsPromises>()
  return { ...fs, readdir: (path: string) => (fails(path) ? Promise.reject(failed()) : fs.readdir(path)) }
})

describe.runIf(process.platform === 'linux')('the table of all processes', () => {
  const own = `/proc/${process.pid}`
  let processTable: typeof ProcessTable.processTable
  // Other files in this process may have it with the true functions, and are to have it so again.
  beforeAll(async () => {
    vi.resetModules()
    processTable = (await import('./process-table.ts')).processTable
  })
  afterAll(() => void vi.resetModules())
  beforeEach(() => void Object.assign(failing, { path: '', code: '', times: 0, open: 0, mostOpen: 0 }))

  it.each(['/proc', `${own}/stat`, `${own}/environ`])('is not whole while %s cannot be read', async (path) => {
    Object.assign(failing, { path, code: 'EMFILE', times: Infinity })
    const { rows, isWhole } = await processTable()
    expect(isWhole).toBe(false)
    expect(rows.some(({ pid }) => pid === process.pid)).toBe(false)
  })

  it.each(['/proc', `${own}/stat`, `${own}/environ`])('has everybody where %s can be read again in a moment', async (path) => {
    Object.assign(failing, { path, code: 'EMFILE', times: 2 })
    const { rows } = await processTable()
    expect(rows.some(({ pid }) => pid === process.pid)).toBe(true)
  })

  it('leaves out one that has ended, and one of another user', async () => {
    for (const code of ['ENOENT', 'ESRCH', 'EPERM']) {
      Object.assign(failing, { path: `${own}/stat`, code, times: 1 })
      expect((await processTable()).rows.some(({ pid }) => pid === process.pid)).toBe(false)
    }
  })

  it('is read with a bounded number of files open at once', async () => {
    await processTable()
    expect(failing.mostOpen).toBeGreaterThan(0)
    expect(failing.mostOpen).toBeLessThanOrEqual(64)
  })
})
