/**
 * Which runner a run is offered to. Load numbers are hints that may be a second old, so this only orders the
 * candidates: the runner's own core admits or refuses. What a runner's owner forbids is known before it is asked, as far
 * as it has said so; the runner has the last word.
 */
import { refusalOf, type Needs, type PolicyView, type Refusal } from '../../shared/policy.ts'

export interface Candidate {
  readonly id: string
  readonly pool: string
  readonly labels: Readonly<Record<string, string>>
  readonly slots: number
  readonly busy: number
  readonly draining: boolean
  /** Absent: it has not said what its owner allows, and will when it is asked. */
  readonly policy?: PolicyView | undefined
}

export interface Wish {
  readonly pool: string
  readonly labels: Readonly<Record<string, string>>
  /** The runner that has the session's transcript. No other one will do. */
  readonly bound: string | undefined
  /** What of the run an owner may forbid. */
  readonly needs: Needs
  /** Runners that refused this run already. */
  readonly tried: ReadonlySet<string>
}

export type Placed =
  | { ok: true; runner: string }
  | { ok: false; why: 'bound_offline' | 'none_matches' | 'all_busy' | 'draining' }
  /** Of the first of them: each of the runners that fit has a rule against it. */
  | { ok: false; why: 'policy'; refusal: Refusal }

/** Power of two choices on the share of free slots: near the best spread, without herding onto the one emptiest runner. */
export function place(candidates: readonly Candidate[], wish: Wish, random: () => number): Placed {
  const fitting = candidates.filter((c) =>
    wish.bound === undefined
      ? c.pool === wish.pool && Object.entries(wish.labels).every(([key, value]) => c.labels[key] === value)
      : c.id === wish.bound,
  )
  if (fitting.length === 0) return { ok: false, why: wish.bound === undefined ? 'none_matches' : 'bound_offline' }
  const refusals = fitting.map(({ policy }) => policy && refusalOf(policy, wish.needs))
  const allowing = fitting.filter((_, i) => !refusals[i])
  const refusal = refusals[0]
  if (allowing.length === 0 && refusal) return { ok: false, why: 'policy', refusal }
  const staying = allowing.filter((c) => !c.draining)
  if (staying.length === 0) return { ok: false, why: 'draining' }
  const free = staying.filter((c) => c.busy < c.slots && !wish.tried.has(c.id))
  if (free.length === 0) return { ok: false, why: 'all_busy' }
  const a = pick(free, random)
  const b = pick(free, random)
  return { ok: true, runner: (freeShare(a) >= freeShare(b) ? a : b).id }
}

function pick(list: readonly Candidate[], random: () => number): Candidate {
  return list[Math.min(list.length - 1, Math.floor(random() * list.length))]!
}

const freeShare = (c: Candidate) => (c.slots - c.busy) / c.slots
