/**
 * What a runner brings back, held against what it should have: who goes on, who is lost, who is none of its business.
 * Offers do not outlive a connection, so none is here.
 */
import type { HeldRun, Resume } from '../../shared/frames.ts'
import { fellShort, type RestoredRun } from './effects.ts'
import { isStarted, restoredRun, type LiveRun } from './live-run.ts'

export type Reconciled = {
  readonly resume: Resume[]
  readonly kept: LiveRun[]
  readonly lost: { run: LiveRun; why: string }[]
}

/** `held` lists every run of which the runner has anything, so one that is missing is gone with its disk. */
export function reconcile(live: ReadonlyMap<string, LiveRun>, held: readonly HeldRun[]): Reconciled {
  const result: Reconciled = { resume: [], kept: [], lost: [] }
  for (const theirs of held) {
    const { run, fence } = theirs
    const ours = live.get(run)
    const known = ours?.fence === fence && ours.phase !== 'offered' ? ours : undefined
    const short = known && isStarted(known) && fellShort(theirs, known.intake.durable)
    if (known && !short) {
      const { seq, part } = known.intake.durable
      result.resume.push({ run, fence, ack: seq, part, do: 'continue' })
      result.kept.push(known)
    } else {
      result.resume.push({ run, fence, ack: 0, part: 0, do: 'revoke' })
      const why = "the runner's disk has less of this run than it had sent, as after a power cut"
      if (known) result.lost.push({ run: known, why })
    }
  }
  const accounted = new Set([...result.kept, ...result.lost.map((l) => l.run)])
  for (const run of live.values()) {
    if (isStarted(run) && !accounted.has(run)) result.lost.push({ run, why: 'the runner came back without this run' })
  }
  return result
}

/**
 * Takes up the leased runs as the database has them; after a failed commit it alone knows what was kept. Returns those of
 * the `unsure` that are over there.
 */
export function takeUp(live: Map<string, LiveRun>, unsure: Iterable<LiveRun>, rows: readonly RestoredRun[], now: number, heardAt = now): string[] {
  const doubted = new Set(unsure)
  for (const row of rows) {
    const known = live.get(row.run)
    if (!known) live.set(row.run, restoredRun(row, now, heardAt))
    else if (known.fence === row.fence) {
      known.intake.restart(row.durable, row.parts)
      // One that was about to be given up may never have started, and can still say so.
      if (doubted.has(known)) known.phase = row.state
    }
  }
  const listed = new Set(rows.map(({ run }) => run))
  const over = [...doubted].filter((run) => live.get(run.run) === run && !listed.has(run.run))
  for (const { run } of over) live.delete(run)
  return over.map(({ run }) => run)
}
