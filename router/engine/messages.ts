/**
 * What was said in a session: of each of its runs, from its lease on, what was asked, and once it has ended what came of it.
 *
 * Nothing of this is stored as messages (docs/decisions/0011). Two turns of a session are never at once, so the order in
 * which they began is the order of the conversation; new messages are always at its end.
 */
import { Fault } from '../../shared/faults.ts'
import { publicStatus, type PublicStatus } from '../core/run-state.ts'
import type { Deps, Records, RunRow } from '../ports.ts'
import { placeOfTurn, turnsOf, type TurnPlace, type TurnRow } from '../store/prompts.ts'
import { mustFindMine } from './sessions.ts'
import { answerOf, resultOf } from './result.ts'

export interface SessionMessage {
  readonly id: string
  readonly session: string
  readonly run: string
  readonly role: 'user' | 'assistant'
  /** Null where there is none, or where it is no longer kept. */
  readonly content: string | null
  /** It is no longer kept. */
  readonly pruned: boolean
  /** When the turn began, or ended. */
  readonly createdAt: number
  /** Of its run. */
  readonly status: PublicStatus
  readonly model: string | null
  /** Of what came of a run that did not succeed. */
  readonly error: { readonly code: string; readonly message: string } | undefined
  readonly costUsd: number | null
  readonly durationMs: number | null
}

export interface MessageQuery {
  readonly limit: number
  /** Only those that were said before this message, or after it. */
  readonly before?: string | undefined
  readonly after?: string | undefined
  /** `asc`: the oldest of them first. */
  readonly order: 'asc' | 'desc'
}

export interface MessagesPage {
  readonly messages: SessionMessage[]
  /** There are more of them in this direction, behind the last one. A page of very long ones may be short. */
  readonly hasMore: boolean
}

/** An answer is read from where the events are: on Workers each of them is a way to an object. */
const READERS = 8
/** A page with more than this is cut short: a single answer can have 16 MiB. */
const PAGE_CHARS = 4 * 1024 * 1024

/** Throws `session_not_found`, and `invalid_request` for a cursor that is no message of this session. */
export async function messagesOf(deps: Pick<Deps, 'store' | 'records'>, tenant: string, named: string, query: MessageQuery): Promise<MessagesPage> {
  const { store, records } = deps
  const { id: session } = await mustFindMine(deps, tenant, named)
  const { limit, order } = query
  const bound = async (field: 'before' | 'after') => {
    const id = query[field]
    const said = id === undefined ? undefined : partsOf(id)
    const place = said && (await placeOfTurn(store.db, tenant, session, said.run))
    if (id !== undefined && !place) throw new Fault('invalid_request', `${field}: is no message of this session`, { extra: { field } })
    return { id, place }
  }
  const [after, before] = await Promise.all([bound('after'), bound('before')])
  // Of the turns that are read two may hold a bound and none of what is within, and one has not been answered yet.
  const turns = Math.ceil((limit + 1) / 2) + 3
  const rows = await turnsOf(store.db, tenant, session, { from: after.place, to: before.place, order, limit: turns })
  const said = rows.flatMap((row) => {
    const of = halves(row)
    return order === 'asc' ? of : of.toReversed()
  })
  const within = said.filter((half) => isAfter(half, after) && isBefore(half, before))
  const messages: SessionMessage[] = []
  for (let chars = 0; messages.length < Math.min(limit, within.length) && chars < PAGE_CHARS;) {
    const some = within.slice(messages.length, Math.min(limit, messages.length + READERS))
    for (const message of await Promise.all(some.map((half) => messageOf(records, session, half)))) {
      messages.push(message)
      chars += message.content?.length ?? 0
    }
  }
  return { messages, hasMore: within.length > messages.length }
}

interface Half {
  readonly turn: TurnRow
  readonly role: 'user' | 'assistant'
}
interface Bound {
  readonly id: string | undefined
  readonly place: TurnPlace | undefined
}

function halves(turn: TurnRow): Half[] {
  return [{ turn, role: 'user' }, ...(turn.run.endedAt === null ? [] : [{ turn, role: 'assistant' } as const])]
}

// Turns outside the bounds were not read; of the one that a bound is in, one half may be on its other side.
const isAfter = ({ turn, role }: Half, { id, place }: Bound) => place?.run !== turn.run.id || (role === 'assistant' && id === idOf(turn.run.id, 'user'))
const isBefore = ({ turn, role }: Half, { id, place }: Bound) => place?.run !== turn.run.id || (role === 'user' && id === idOf(turn.run.id, 'assistant'))

/** `msg_`, the digits of the run, and who speaks. */
const idOf = (run: string, role: Half['role']): string => `msg_${run.slice('run_'.length)}_${role === 'user' ? 'u' : 'a'}`

export const MESSAGE_ID = /^msg_([0-9a-f]{32})_[ua]$/

function partsOf(id: string): { run: string } | undefined {
  const [, digits] = MESSAGE_ID.exec(id) ?? []
  return digits === undefined ? undefined : { run: `run_${digits}` }
}

async function messageOf(records: Records, session: string, { turn: { run, prompt }, role }: Half): Promise<SessionMessage> {
  const base = { id: idOf(run.id, role), session, run: run.id, role, status: publicStatus(run.state), model: run.model }
  if (role === 'user') {
    return { ...base, content: prompt, pruned: prompt === null, createdAt: run.startedAt ?? run.createdAt, error: undefined, costUsd: null, durationMs: null }
  }
  const { content, pruned } = await answerTo(records, run)
  return {
    ...base,
    content,
    pruned,
    createdAt: run.endedAt ?? run.createdAt,
    error: run.errorCode === null ? undefined : { code: run.errorCode, message: run.errorMessage ?? '' },
    costUsd: run.costUsd,
    durationMs: run.durationMs,
  }
}

async function answerTo(records: Records, run: RunRow): Promise<{ content: string | null; pruned: boolean }> {
  // One that was cut off said nothing that would count as an answer, whatever is kept of it.
  if (run.resultSeq === null) return { content: null, pruned: false }
  const result = await resultOf(records, run)
  if (!result) return { content: null, pruned: true }
  const text = result['result'] ?? answerOf(result)
  return { content: text === null || typeof text === 'string' ? text : JSON.stringify(text), pruned: false }
}
