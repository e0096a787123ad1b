/** The test of the test: what the model is there to find, it finds. Each count is how many schedules that took. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import type { Mutant } from './mutant.ts'
import { mutants } from './mutants.ts'
import { play, schedule, type Play } from './schedule.ts'
import { installTime, type Time } from './time.ts'

vi.mock('node:fs', async (original) => (await import('./disk.ts')).overlay(await original()))
vi.mock('../../shared/limits.ts', async (original) => {
  const { scaledSizes } = await import('./scaled.ts')
  return { ...(await original<object>()), ...scaledSizes }
})

const ENOUGH = 1_000

describe('the model of the protocol', () => {
  let dir = ''
  let time: Time | undefined
  let restore: () => void = () => undefined
  beforeAll(() => {
    dir = mkdtempSync(join(tmpdir(), 'runyard-mutants-'))
    restore = installTime(() => time!)
  })
  afterAll(() => {
    restore()
    rmSync(dir, { recursive: true, force: true })
  })

  async function caughtAfter({ patch, faults, as: only }: Mutant): Promise<{ schedules: number; as: string }> {
    const undo = patch?.() ?? (() => undefined)
    try {
      const how: Play = { install: (world) => (time = world.time), mutate: faults, only }
      const broken = fc.asyncProperty(schedule, (steps) => play(steps, dir, how))
      const { numRuns, errorInstance } = await fc.check(broken, { numRuns: ENOUGH, endOnFailure: true, seed: 1 })
      return { schedules: numRuns, as: errorInstance instanceof Error ? errorInstance.message : '' }
    } finally {
      undo()
    }
  }

  it.each(mutants)('catches $name', { timeout: 120_000 }, async (mutant) => {
    const { schedules, as } = await caughtAfter(mutant)
    process.stderr.write(`${mutant.name}: ${schedules} schedules, ${as.split('\n')[0]}\n`)
    expect(as).toMatch(mutant.as)
  })
})
