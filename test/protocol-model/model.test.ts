/**
 * The protocol under schedules that no network produces on demand: the real hub, log, inbox and cores against the real
 * agent, runs, outboxes and spools, with frames, commits, syncs and time in the hands of the schedule. The invariants
 * are those of docs/protocol.md. `MODEL_RUNS` says how many schedules.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { LONG } from '../kit/long.ts'
import { play, schedule, type Step } from './schedule.ts'
import { installTime, type Time } from './time.ts'
import type { World } from './world.ts'

vi.mock('node:fs', async (original) => (await import('./disk.ts')).overlay(await original()))
vi.mock('../../shared/limits.ts', async (original) => {
  const { scaledSizes } = await import('./scaled.ts')
  return { ...(await original<object>()), ...scaledSizes }
})

const RUNS = Number(process.env['MODEL_RUNS'] ?? (LONG ? 100_000 : 3_000))

describe('the protocol, whatever happens', () => {
  let dir = ''
  let time: Time | undefined
  let restore: () => void = () => undefined
  beforeAll(() => {
    dir = mkdtempSync(join(tmpdir(), 'runyard-protocol-'))
    restore = installTime(() => time!)
  })
  afterAll(() => {
    restore()
    rmSync(dir, { recursive: true, force: true })
  })

  it('ends a run of which a power cut has left less than the router has', async () => {
    const steps: Step[] = [
      { do: 'place', run: 0, machine: 0 },
      { do: 'flow' },
      { do: 'print', cli: 0, bytes: 1 },
      { do: 'flow' },
      { do: 'killRunner', machine: 0, powerCut: true, kept: 0 },
    ]
    let played: World | undefined
    const told: string[] = []
    await play(steps, dir, {
      install: (world) => ((played = world), (time = world.time)),
      mutate: (faults) => ({ ...faults, receives: (_, message) => void (message.t === 'welcome' && told.push(...message.resume.map((run) => run.do))) }),
    })
    expect(played?.rows[0]?.state).toBe('lost')
    expect(played?.rows[0]?.exit?.message).toContain('disk has less of this run')
    // The first time that it is back: had it gone on, its exit would have taken a seq that is known, and ended it the next time.
    expect(told).toEqual(['revoke'])
  })

  it(`keeps its invariants through ${RUNS} schedules`, { timeout: 3_600_000 }, async () => {
    const details = await fc.check(
      fc.asyncProperty(schedule, (steps) => play(steps, dir, { install: (world) => (time = world.time) })),
      { numRuns: RUNS },
    )
    // With the seed and the shortest schedule that was found.
    expect(details.failed, `${String(details.errorInstance)}\n${fc.defaultReportMessage(details)}`).toBe(false)
  })
})
