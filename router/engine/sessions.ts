/**
 * Sessions as things of their own: made before anybody ran anything, found, named, put aside, taken away. What is said in
 * them is in messages.ts; a run of one goes through submit().
 *
 * Every dialect translates onto this. An id that is malformed, unknown or somebody else's is the same `session_not_found`.
 */
import { Fault } from '../../shared/faults.ts'
import { SessionId } from '../../shared/ids.ts'
import { refusePool } from '../guard/narrow.ts'
import type { Deps, Principal } from '../ports.ts'
import { listSessionRows, lookThrough, NO_TOTALS, sumsOf, totalsOf, type Place, type SessionFilter, type SessionSums, type Totals } from '../store/session-pages.ts'
import { deleteSessions, findSession, isSession, liveRunsIn, prepareSession, updateSession, type SessionChange, type SessionRow } from '../store/sessions.ts'
import { cancelRun } from './cancel.ts'
import { untilEnded } from './stream.ts'

export type SessionWithTotals = SessionRow & Totals
export type { SessionChange, SessionRow, SessionSums, Totals }

export interface NewSession {
  /** Where its first run is to work; undefined: wherever that asks for. */
  readonly cwd?: string | undefined
  readonly pool?: string | undefined
  /** Of its runs that name none. */
  readonly model?: string | undefined
  readonly title?: string | undefined
  readonly metadata?: Record<string, unknown> | undefined
}

/** Prepares a session: the first run that names it opens it, under this id. Throws `forbidden` for a pool that the token is not good for. */
export async function createSession({ store, platform, outbox }: Deps, who: Pick<Principal, 'tenant' | 'narrowing'>, wish: NewSession): Promise<SessionRow> {
  const { cwd = null, pool = null, model = null, title = null, metadata = null } = wish
  if (pool !== null) refusePool(who.narrowing, pool)
  const row = await prepareSession(store, { id: crypto.randomUUID(), tenant: who.tenant, cwd, pool, model, title, metadata }, platform.now())
  outbox?.nudge(who.tenant)
  return row
}

/** Undefined for every id that is not one of this tenant's. */
export async function findMine({ store }: Pick<Deps, 'store'>, tenant: string, id: string): Promise<SessionRow | undefined> {
  return SessionId.safeParse(id).success ? findSession(store.db, tenant, id) : undefined
}

/** Throws `session_not_found`. */
export async function mustFindMine(deps: Pick<Deps, 'store'>, tenant: string, id: string): Promise<SessionRow> {
  const row = await findMine(deps, tenant, id)
  if (!row) throw notThere(id)
  return row
}

/** With what its runs add up to. Throws `session_not_found`. */
export async function viewSession(deps: Pick<Deps, 'store'>, tenant: string, id: string): Promise<SessionWithTotals> {
  const row = await mustFindMine(deps, tenant, id)
  return { ...row, ...((await totalsOf(deps.store.db, tenant, [row.id])).get(row.id) ?? NO_TOTALS) }
}

/** What its runs add up to, with their tokens and outcomes. Throws `session_not_found`. */
export async function sessionStats(deps: Pick<Deps, 'store'>, tenant: string, id: string): Promise<{ session: SessionRow; sums: SessionSums }> {
  const session = await mustFindMine(deps, tenant, id)
  return { session, sums: await sumsOf(deps.store.db, tenant, session.id) }
}

export interface SessionQuery extends Omit<SessionFilter, 'from'> {
  /** Only those that hold this text in their title, directory, metadata or prompts, or whose id begins with it. */
  readonly q?: string | undefined
  /** `next` of the page before. */
  readonly cursor?: string | undefined
}

export interface SessionsPage {
  readonly sessions: SessionWithTotals[]
  /** Null: there are no more. With `q` a page may be short, or empty, and not the last. */
  readonly next: string | null
}

/** Sessions that one piece of a search looks at, and pieces of one request: what is left is behind the cursor. */
const PIECE = 50
const PIECES = 40

/** The one that was used last in front, unless `order` says otherwise. Throws `invalid_request` for a cursor that is none. */
export async function listSessions({ store }: Pick<Deps, 'store'>, tenant: string, { q, cursor, ...filter }: SessionQuery): Promise<SessionsPage> {
  const { db } = store
  const found: SessionRow[] = []
  let from = cursor === undefined ? undefined : placeOf(cursor)
  let more = true
  const size = q ? PIECE : filter.limit + 1
  for (let piece = 0; more && found.length <= filter.limit && piece < PIECES; piece++) {
    const query = { ...filter, from, limit: size }
    const looked = q ? await lookThrough(db, tenant, query, q) : (await listSessionRows(db, tenant, query)).map((row) => ({ row, fits: true }))
    found.push(...looked.flatMap(({ row, fits }) => (fits ? [row] : [])))
    from = looked.at(-1)?.row ?? from
    more = looked.length === size
  }
  const page = found.slice(0, filter.limit)
  const totals = await totalsOf(db, tenant, page.map(({ id }) => id))
  const last = found.length > filter.limit ? page.at(-1) : more ? from : undefined
  return { sessions: page.map((row) => ({ ...row, ...(totals.get(row.id) ?? NO_TOTALS) })), next: last ? cursorOf(last) : null }
}

/** Throws `session_not_found`. */
export async function changeSession({ store, platform }: Deps, tenant: string, id: string, change: SessionChange): Promise<SessionRow> {
  const found = await findMine({ store }, tenant, id)
  const row = found && (await updateSession(store.db, tenant, found.id, change, platform.now()))
  if (!row) throw notThere(id)
  return row
}

/** How long the turns of a session get to end, where it is to go all the same. */
const CANCEL_MS = 15_000
const AGAIN_MS = 100

/**
 * Takes a session away, with what was said in it; its runs stay for statistics. While a turn waits or is under way that is
 * `session_busy`, or with `cancel` the turn is ended first. Throws `session_not_found`.
 */
export async function deleteSession(deps: Deps, tenant: string, named: string, { running }: { running: 'refuse' | 'cancel' }): Promise<void> {
  const { store, platform } = deps
  const { id } = await mustFindMine(deps, tenant, named)
  const signal = AbortSignal.timeout(CANCEL_MS)
  for (;;) {
    if ((await deleteSessions(store, isSession(tenant, id), platform.now())) > 0) return deps.outbox?.nudge(tenant)
    // Somebody else was faster.
    await mustFindMine(deps, tenant, id)
    if (running === 'refuse' || signal.aborted) throw new Fault('session_busy', `session ${id} has a turn in progress`, { retryAfterS: 2 })
    const live = await liveRunsIn(store.db, tenant, id)
    await Promise.all(live.map((run) => cancelRun(deps, { run, tenant })))
    await Promise.all(live.map((run) => untilEnded(deps, { run, tenant }, signal)))
    // Their rows may lag behind their events, and one that is about to open it has none yet.
    await new Promise((resolve) => setTimeout(resolve, AGAIN_MS))
  }
}

const notThere = (id: string) => new Fault('session_not_found', `no session ${id.slice(0, 64)}`)

/** Places are opaque to callers. */
const cursorOf = ({ lastRunAt, id }: Place): string => `${lastRunAt}.${id}`

function placeOf(cursor: string): Place {
  const [at = '', id = '', ...rest] = cursor.split('.')
  if (rest.length > 0 || !/^\d{1,15}$/.test(at) || !SessionId.safeParse(id).success) {
    throw new Fault('invalid_request', 'before: is not a cursor of this list', { extra: { field: 'before' } })
  }
  return { lastRunAt: Number(at), id }
}
