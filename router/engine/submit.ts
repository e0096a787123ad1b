/**
 * From a checked request to an accepted run: session, placement, row, offer. Every dialect submits through here.
 *
 * Resolves only when the runner has accepted and the lease is durable, so a bad `cwd` or an unknown agent is an error
 * of the request, not an event of a stream. A refused run leaves nothing behind.
 */
import { place } from '../core/placement.ts'
import { Fault } from '../../shared/faults.ts'
import type { CliOptions, RunSpec, SessionUse } from '../../shared/run-spec.ts'
import type { Deps, Principal, RunRef } from '../ports.ts'
import { dropRefused, insertOffered, reoffer } from '../store/runs.ts'
import { findSession, type SessionRow } from '../store/sessions.ts'

/** An offer that was refused for want of room goes to another runner this many times. */
const MAX_REOFFERS = 2
const RETRY_AFTER_S = 2

export interface Submission {
  readonly prompt: string
  readonly cli: CliOptions
  readonly sessionId: string | undefined
  readonly fork: boolean
  readonly cwd: string | undefined
  readonly pool: string
  readonly labels: Readonly<Record<string, string>>
  readonly timeoutS: number
  readonly metadata: Record<string, string> | undefined
}

/** `newSessionId` is made by the caller, which has the randomness: it names a fresh or forked conversation. */
export async function submit(deps: Deps, who: Principal, wish: Submission, newSessionId: string): Promise<RunRef> {
  const { store, platform, hub } = deps
  const session = wish.sessionId === undefined ? undefined : await continued(deps, who, wish)
  const use: SessionUse = !session
    ? { mode: 'new', id: newSessionId }
    : wish.fork
      ? { mode: 'fork', id: newSessionId, from: session.id }
      : { mode: 'resume', id: session.id }
  const cwd = session?.cwd ?? wish.cwd
  const spec: RunSpec = {
    ...wish.cli,
    tenant: who.tenant,
    session: use,
    ...(cwd === undefined ? {} : { cwd }),
    prompt: wish.prompt,
    timeout_s: wish.timeoutS,
  }
  const ref: RunRef = { run: `run_${platform.id()}`, tenant: who.tenant }
  const tried = new Set<string>()
  let runner = await choose(deps, who, wish, session, tried)
  const inserted = await insertOffered(store.db, {
    id: ref.run,
    tenant: who.tenant,
    subject: who.subject,
    session: use.id,
    pool: wish.pool,
    runner,
    model: wish.cli.model ?? null,
    metadata: wish.metadata ?? null,
    createdAt: platform.now(),
  })
  if (!inserted) throw new Fault('session_busy', `session ${use.id} has a turn in progress`, { retryAfterS: RETRY_AFTER_S })
  for (let fence = 1; ; fence++) {
    try {
      await hub.dispatch({ ...ref, runner, fence, spec })
      return ref
    } catch (error) {
      tried.add(runner)
      const next = elsewhere(error) && !session && fence <= MAX_REOFFERS ? await choose(deps, who, wish, session, tried).catch(() => undefined) : undefined
      if (next === undefined || !(await reoffer(store.db, ref.run, fence, next))) {
        await dropRefused(store.db, ref.run, fence)
        throw error
      }
      runner = next
    }
  }
}

/** Refusals that speak of the runner, not of the run. Nothing has started under that fence. */
function elsewhere(error: unknown): boolean {
  return error instanceof Fault && (error.code === 'busy' || error.code === 'draining' || error.code === 'no_runner' || error.code === 'start_by')
}

async function continued(deps: Deps, who: Principal, wish: Submission): Promise<SessionRow> {
  const session = await findSession(deps.store.db, who.tenant, wish.sessionId ?? '')
  if (!session) throw new Fault('session_not_found', `no session ${wish.sessionId}`, { extra: { field: 'session_id' } })
  if (wish.cwd !== undefined && wish.cwd !== session.cwd) {
    throw new Fault('session_cwd', `session ${session.id} lives in ${session.cwd}; leave cwd out to continue it`, { extra: { field: 'cwd' } })
  }
  return session
}

async function choose(deps: Deps, who: Principal, wish: Submission, session: SessionRow | undefined, tried: ReadonlySet<string>): Promise<string> {
  const online = await deps.hub.online(who.tenant)
  const placed = place(online, { pool: wish.pool, labels: wish.labels, bound: session?.runner, tried }, () => deps.platform.random())
  if (placed.ok) return placed.runner
  const labels = Object.entries(wish.labels).map(([key, value]) => `${key}=${value}`)
  const retry = { retryAfterS: RETRY_AFTER_S }
  switch (placed.why) {
    case 'bound_offline':
      throw new Fault('no_runner', `the runner that holds session ${session?.id} is not connected`, retry)
    case 'none_matches':
      throw new Fault('no_runner', `no runner in pool ${wish.pool}${labels.length > 0 ? ` with labels ${labels.join(', ')}` : ''} is connected`, retry)
    case 'draining':
      throw new Fault('draining', 'every runner that fits takes no new runs', retry)
    case 'all_busy':
      throw new Fault('busy', 'every slot of the runners that fit is taken', retry)
  }
}
