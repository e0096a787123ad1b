/** A pool of processes without a process, by a clock that a test turns. */
import { expect } from 'vitest'
import { WarmPool, type WarmLimits } from '../../runner/warm/pool.ts'
import { TestClock } from './clock.ts'
import { PaperResident } from './residents.ts'

export const MIB = 1_048_576
export const S = 1_000
/** Whatever is due without time passing has happened. */
export const settle = () => new Promise((resolve) => setImmediate(resolve))

export class PoolStage {
  readonly clock = new TestClock()
  readonly told: string[] = []
  /** What a process has, by its pid; else 200 MiB. */
  readonly bytes = new Map<number, number>()

  poolOf(limits: Partial<WarmLimits> = {}): WarmPool {
    return new WarmPool({
      clock: this.clock,
      limits: { idleMs: 300 * S, budgetBytes: 1_000 * MIB, spares: 2, ...limits },
      memoryOf: async (pid) => this.bytes.get(pid) ?? 200 * MIB,
      log: (message) => this.told.push(message),
    })
  }
}

/** A process that has had a turn and waits for the next. */
export async function kept(pool: WarmPool, session = 'a', key = 'key', tenant = 'main'): Promise<PaperResident> {
  const resident = new PaperResident(session, key, tenant)
  expect(pool.adopt(resident)).toBe(true)
  await resident.serve()
  pool.giveBack(resident)
  await settle()
  return resident
}
