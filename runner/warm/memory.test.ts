import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { afterEach, describe, expect, it } from 'vitest'
import { until } from '../../test/kit/wait.ts'
import { memoryOf } from './memory.ts'

const MIB = 1_048_576
/** Holds 64 MiB that were written to, and starts another one that does. */
const PARENT = `
  globalThis.held = Buffer.alloc(${64 * MIB}, 1)
  if (process.argv[1] === 'parent') require('node:child_process').spawn(process.execPath, ['-e', process.env.CODE, 'child'], { stdio: ['pipe', 'inherit', 'ignore'] })
  process.stdin.on('end', () => process.exit(0)).resume()
  process.stdout.write('.')
`

describe('the memory of a process', () => {
  let parent: ChildProcess | undefined
  afterEach(() => void parent?.kill('SIGKILL'))

  it('has that of all below it', async () => {
    parent = spawn(process.execPath, ['-e', PARENT, 'parent'], { env: { CODE: PARENT }, stdio: ['pipe', 'pipe', 'ignore'] })
    let said = 0
    parent.stdout!.on('data', (bytes: Buffer) => (said += bytes.length))
    await until('both to hold it', () => said === 2)
    const bytes = await memoryOf(parent.pid!)
    expect(bytes).toBeGreaterThan(existsSync('/proc/self/status') ? 128 * MIB : -1)
    parent.stdin!.end()
    await once(parent, 'exit')
  })

  it('is 0 of one that is not there', async () => {
    expect(await memoryOf(2 ** 30)).toBe(0)
  })
})
