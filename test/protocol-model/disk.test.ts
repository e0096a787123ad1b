/** What a runner waits for before it says anything, with the disk in the hands of the test. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import type { TurnSink } from '../../runner/cli-process.ts'
import { Spool } from '../../runner/spool.ts'
import { Fault } from '../../shared/faults.ts'
import { AgentRig, offer } from '../kit/agent.ts'
import { until } from '../kit/wait.ts'
import { disk } from './disk.ts'

vi.mock('node:fs', async (original) => (await import('./disk.ts')).overlay(await original()))

const session = '0190a8c4-7c1e-7000-8000-000000000001'
const noSpace = () => Object.assign(new Error('no space left on device'), { code: 'ENOSPC' })
/** Whatever does not wait for the disk comes to rest. */
async function settle(): Promise<void> {
  for (let round = 0; round < 4; round++) await new Promise((resolve) => setImmediate(resolve))
}

let dir = ''
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'runyard-disk-'))
})
afterEach(() => {
  disk.reset()
  rmSync(dir, { recursive: true, force: true })
})

describe('an offer', () => {
  let rig: AgentRig
  beforeEach(async () => {
    rig = new AgentRig(dir)
    await rig.agent.recover()
    rig.connect()
  })
  afterEach(() => rig.agent.close())

  async function said(): Promise<string[]> {
    await settle()
    rig.clock.advance(10)
    return rig.types().slice(1)
  }

  it('is not accepted before its intent is on the disk', async () => {
    rig.receive(offer())
    expect(await said()).toEqual([])
    expect(rig.prepared).toBe(1)
    expect(disk.release()).toBe(true)
    expect(await said()).toEqual(['accept'])
  })

  it('is not accepted before the folder has the name of its spool on the disk', async () => {
    disk.foldersHeld = true
    rig.receive(offer())
    disk.release()
    expect(await said()).toEqual([])
    disk.releaseFolders()
    expect(await said()).toEqual(['accept'])
  })

  it('is refused where its intent does not get to the disk, and the CLI that was prepared meanwhile is ended', async () => {
    rig.receive(offer())
    expect(await said()).toEqual([])
    disk.release(noSpace())
    expect(await said()).toEqual(['reject'])
    expect(rig.last('reject')).toMatchObject({ re: 'o1', code: 'disk' })
    expect([rig.cli.cancels, rig.cli.disposed, rig.agent.idle, readdirSync(dir)]).toEqual([['kill'], 1, true, []])
  })

  it('is refused for that reason also where what was prepared meanwhile cannot be taken away', async () => {
    rig.prepare = () => Promise.resolve({ ...rig.cli.prepared, dispose: () => Promise.reject(new Error('it stays')) })
    rig.receive(offer())
    await settle()
    disk.release(noSpace())
    expect(await said()).toEqual(['reject'])
    expect([rig.last('reject').code, rig.agent.idle, readdirSync(dir)]).toEqual(['disk', true, []])
  })

  it('is refused once its CLI is prepared, where the disk has failed before', async () => {
    const preparing = rig.hold()
    rig.receive(offer())
    await preparing.begun
    disk.release(noSpace())
    expect(await said()).toEqual([])
    preparing.finish()
    expect(await said()).toEqual(['reject'])
    expect([rig.last('reject').code, rig.cli.cancels, readdirSync(dir)]).toEqual(['disk', ['kill'], []])
  })

  it('that cannot be prepared is refused at once, for that reason, whatever the disk says later', async () => {
    rig.prepare = () => Promise.reject(new Fault('cwd', 'no such directory'))
    rig.receive(offer())
    expect(await said()).toEqual(['reject'])
    expect(rig.last('reject')).toMatchObject({ code: 'cwd' })
    disk.release(noSpace())
    expect(await said()).toEqual(['reject'])
  })
})

describe('what a run has printed', () => {
  let rig: AgentRig
  let sink: TurnSink
  beforeEach(async () => {
    rig = new AgentRig(dir)
    await rig.agent.recover()
    rig.connect()
    rig.receive(offer())
    await settle()
    disk.release()
    await rig.sent('accept')
    rig.go()
    disk.release()
    sink = await rig.cli.started
  })
  afterEach(() => rig.agent.close())

  /** Whether a sync began by the next second. */
  function isSynced(): boolean {
    rig.clock.advance(1_000)
    return disk.release()
  }

  it('is on the disk within a second, once for all of it, unless the router has it by then', async () => {
    sink.line(Buffer.from('{}'))
    await settle()
    expect([isSynced(), isSynced()]).toEqual([true, false])
    sink.line(Buffer.from('{}'))
    await settle()
    rig.ackAll()
    expect(isSynced()).toBe(false)
    sink.line(Buffer.from('{}'))
    await settle()
    expect(isSynced()).toBe(true)
  })

  it('is on the disk although the router has it, when the exit would have to wait for a mebibyte of it', async () => {
    const half = async () => {
      for (let line = 0; line < 16; line++) sink.line(Buffer.alloc(32_768, 0x61))
      await settle()
      rig.ackAll()
    }
    await half()
    expect(isSynced()).toBe(false)
    await half()
    expect([isSynced(), isSynced()]).toEqual([true, false])
  })
})

describe('a sync of a spool', () => {
  let spool: Spool
  beforeEach(async () => {
    spool = Spool.create(join(dir, 'a.spool'), { run: `run_${'a'.repeat(32)}`, fence: 1, tenant: 'default', session, marker: session })
    const intended = spool.intended()
    disk.release()
    await intended
    spool.line(Buffer.from('{}'))
    spool.flush()
  })
  afterEach(() => spool.remove())

  /** Two calls for the same line, and what has become of them. */
  function twice(): string[] {
    const ends: string[] = []
    for (const name of ['first', 'second']) {
      spool.sync().then(
        () => ends.push(name),
        () => ends.push(`${name} failed`),
      )
    }
    return ends
  }

  it('waits for one that is under way, where that is for all that was written', async () => {
    const ends = twice()
    await settle()
    expect(ends).toEqual([])
    disk.release()
    await until('both to be over', () => ends.length === 2)
    expect([ends, disk.release()]).toEqual([['first', 'second'], false])
  })

  it('fails with that one', async () => {
    const ends = twice()
    disk.release(noSpace())
    await until('both to be over', () => ends.length === 2)
    expect(ends).toEqual(['first failed', 'second failed'])
  })

  it('is one of its own for what was written since', async () => {
    const first = spool.sync()
    spool.mark({ kind: 'stderr', text: 'oh', truncated: false })
    const ends = twice()
    disk.release()
    await first
    await until('all to be over', () => ends.length === 2)
    expect(disk.syncedBytes(spool.path)).toBe(spool.bytes)
  })
})
