/**
 * The control messages of wire protocol `runyard.v1`, router ↔ runner: JSON text frames. `event-frames.ts` has the
 * binary ones, docs/protocol.md the rules. Only durations cross the wire, never a time of day.
 *
 * An unknown `t` is ignored, so that either end may be newer; a known `t` with a bad body closes the link (4400).
 */
import { z } from 'zod'
import type { FaultCode } from './faults.ts'
import { Grants, ProviderReport } from './grants.ts'
import { Name, RunId, SessionId } from './ids.ts'
import { Mark } from './marks.ts'
import { PolicyView } from './policy.ts'
import { RunSpec } from './run-spec.ts'

const Fence = z.int().positive()
const Seq = z.int().nonnegative()
const MessageId = z.string().min(1).max(64)
const Labels = z.record(Name, z.string().max(256)).refine((labels) => Object.keys(labels).length <= 64, 'are more than 64')

/** What `GET /v1/runs` and the machine's owner call a provider; `demo` is the scripted model. */
export const LocalProvider = z.enum(['local', 'demo'])
export type LocalProvider = z.infer<typeof LocalProvider>

/** One run as its runner holds it. `last` is the newest seq in the spool. */
export const HeldRun = z.object({
  run: RunId,
  fence: Fence,
  state: z.enum(['accepted', 'starting', 'running', 'exited']),
  last: Seq,
})
export type HeldRun = z.infer<typeof HeldRun>

export const Hello = z.object({
  t: z.literal('hello'),
  proto: z.tuple([z.int().positive(), z.int().positive()]),
  /** New for each process of the runner. */
  boot: z.uuid(),
  /** Counts the connections of this process: the newest one wins. */
  conn: z.int().positive(),
  agent: z.string().max(64),
  cli: z.string().max(64).nullable(),
  os: z.string().max(128),
  caps: z.array(z.string().max(64)).max(64),
  slots: z.int().min(0).max(1024),
  labels: Labels,
  provider: LocalProvider.nullable(),
  /** What its owner allows, so that a refusal can be early; its own word is the last one. */
  policy: PolicyView.optional(),
  runs: z.array(HeldRun).max(4096),
})
export type Hello = z.infer<typeof Hello>
/** What a router keeps of it for as long as the connection lives: it may have thousands that do nothing else. */
export type Greeting = Pick<Hello, 'agent' | 'cli' | 'caps' | 'slots' | 'labels' | 'provider' | 'policy'>

/**
 * `cwd` is the real path that the session will live in: a later turn must use the same one. `session` is the CLI's own id
 * of a new session, where the CLI was started before anybody had thought of the session.
 */
export const Accept = z.object({
  t: z.literal('accept'),
  re: MessageId,
  run: RunId,
  fence: Fence,
  cwd: z.string().min(1).max(4096),
  session: SessionId.optional(),
})
export type Accept = z.infer<typeof Accept>
/** What a runner may refuse with; every other code is the router's own word. */
export const RunnerRefusal = z.enum([
  'agent_not_found',
  'busy',
  'cli',
  'cwd',
  'disk',
  'draining',
  'internal',
  'invalid_request',
  'policy',
  'session_not_found',
  'start_by',
  'unknown_provider',
] satisfies FaultCode[])
export const Reject = z.object({
  t: z.literal('reject'),
  re: MessageId,
  run: RunId,
  fence: Fence,
  code: RunnerRefusal,
  message: z.string().max(2_048),
})
/** On the runner's disk before the prompt is written to the CLI. */
export const Starting = z.object({ t: z.literal('starting'), run: RunId, fence: Fence })
export const MarkFrame = z.object({ t: z.literal('mark'), run: RunId, fence: Fence, seq: Seq.positive(), mark: Mark })
export const Heartbeat = z.object({
  t: z.literal('hb'),
  id: MessageId,
  runs: z.array(z.tuple([RunId, Fence, Seq])).max(4096),
  free: z.int().nonnegative(),
  load: z.number().nonnegative(),
  disk_free: z.number().nonnegative(),
})
/** How one request of a run to its provider ended: health and usage, not part of the run's log. */
export const ProviderMessage = ProviderReport.extend({ t: z.literal('provider') })
export const Refresh = z.object({ t: z.literal('refresh'), assertion: z.string().max(8_192) })
/** What became of the files of a pool that it was sent. `error`: not all of them are as they should be, and why. */
export const Configured = z.object({ t: z.literal('configured'), version: z.int().nonnegative(), error: z.string().max(512).optional() })
export type Configured = z.infer<typeof Configured>
export const Drain = z.object({ t: z.literal('drain') })
export const Bye = z.object({ t: z.literal('bye') })
export const Err = z.object({ t: z.literal('err'), re: MessageId.optional(), code: z.string().max(64), message: z.string().max(2_048) })

export const ToRouter = z.discriminatedUnion('t', [Hello, Accept, Reject, Starting, MarkFrame, Heartbeat, ProviderMessage, Configured, Refresh, Drain, Bye, Err])
export type ToRouter = z.infer<typeof ToRouter>

/** `continue` from `ack` (and `part` parts of the next event), `revoke`: kill, it is no longer yours, `forget`: all of it is kept here. */
export const Resume = z.object({
  run: RunId,
  fence: Fence,
  ack: Seq,
  part: z.int().nonnegative(),
  do: z.enum(['continue', 'revoke', 'forget']),
})
export type Resume = z.infer<typeof Resume>

export const Welcome = z.object({
  t: z.literal('welcome'),
  proto: z.int().positive(),
  epoch: z.int().positive(),
  ping_ms: z.int().positive(),
  dead_ms: z.int().positive(),
  lease_ms: z.int().positive(),
  grace_ms: z.int().positive(),
  max_msg: z.int().positive(),
  credit: z.int().positive(),
  resume: z.array(Resume),
})
export type Welcome = z.infer<typeof Welcome>

export const Offer = z.object({
  t: z.literal('offer'),
  id: MessageId,
  run: RunId,
  fence: Fence,
  spec: RunSpec,
  /** Absent: the machine's own login pays. */
  grants: Grants.optional(),
  start_by_ms: z.int().positive(),
})
export type Offer = z.infer<typeof Offer>

/** Durable up to `seq`, and `part` parts of the event after it; `window` bytes may be under way beyond that. */
export const AckEntry = z.tuple([RunId, Fence, Seq, z.int().nonnegative(), z.int().positive()])
export type AckEntry = z.infer<typeof AckEntry>
export const Ack = z.object({ t: z.literal('ack'), a: z.array(AckEntry) })
/** The first lease of a run is its *go*. Its age counts from the sending of what it answers (`re`: accept's offer, or a heartbeat). */
export const Lease = z.object({ t: z.literal('lease'), re: MessageId, l: z.array(z.tuple([RunId, Fence, z.int().positive()])) })
export const Cancel = z.object({
  t: z.literal('cancel'),
  id: MessageId,
  run: RunId,
  fence: Fence,
  mode: z.enum(['interrupt', 'term', 'kill']),
  grace_ms: z.int().nonnegative(),
})
/** Everything of this run is durable here, or it is none of yours: drop its spool (`forget`) or kill it first (`revoke`). */
export const Release = z.object({ t: z.enum(['revoke', 'forget']), run: RunId, fence: Fence })
export const GoAway = z.object({ t: z.literal('goaway'), reason: z.string().max(256), after_ms: z.tuple([z.int().nonnegative(), z.int().nonnegative()]) })
export const Token = z.object({ t: z.literal('token'), token: z.string().max(8_192), expires_in_s: z.int().positive() })

/**
 * Files for the CLI, in place of all that came before, in parts that follow each other; they hold once the last is there.
 * What is in them is for the runner to judge, file by file: a kind that it does not know must not end its link.
 */
export const ConfigMessage = z.object({
  t: z.literal('config'),
  version: z.int().nonnegative(),
  part: z.int().nonnegative(),
  parts: z.int().positive().max(4096),
  files: z.array(z.object({ kind: z.string().max(64), name: z.string().max(256), content: z.string() })).max(4096),
})
export type ConfigMessage = z.infer<typeof ConfigMessage>

export const ToRunner = z.discriminatedUnion('t', [Welcome, Offer, Ack, Lease, Cancel, Release, GoAway, Token, ConfigMessage, Err])
export type ToRunner = z.infer<typeof ToRunner>

/** WebSocket close codes of the protocol. */
export const CLOSE = {
  malformed: 4400,
  auth: 4401,
  revoked: 4403,
  liveness: 4408,
  superseded: 4409,
  tooLarge: 4413,
  version: 4426,
  rate: 4429,
  restart: 1012,
  overload: 1013,
} as const

export type Decoded<M> = { ok: true; message: M } | { ok: false; unknown: string } | { ok: false; unknown?: undefined; reason: string }

/** Reads one control frame. `unknown` names a `t` that this build does not know, `reason` says what is malformed. */
export function decodeControl<M>(schema: z.ZodType<M>, known: ReadonlySet<string>, text: string): Decoded<M> {
  let body: unknown
  try {
    body = JSON.parse(text)
  } catch {
    return { ok: false, reason: 'a text frame is not JSON' }
  }
  const t = typeof body === 'object' && body !== null && 't' in body ? body.t : undefined
  if (typeof t !== 'string') return { ok: false, reason: 'a control message has no t' }
  if (!known.has(t)) return { ok: false, unknown: t.slice(0, 64) }
  const parsed = schema.safeParse(body)
  if (parsed.success) return { ok: true, message: parsed.data }
  const issue = parsed.error.issues[0]
  const why = issue ? `${issue.path.join('.')} ${issue.message}` : 'malformed'
  // It becomes the reason of a close frame: a socket throws past 123 bytes (RFC 6455 §5.5), and the path is the sender's.
  return { ok: false, reason: `${t}: ${why}`.replaceAll(/[^ -~]/g, '?').slice(0, 120) }
}

const TO_ROUTER = new Set(['hello', 'accept', 'reject', 'starting', 'mark', 'hb', 'provider', 'configured', 'refresh', 'drain', 'bye', 'err'])
const TO_RUNNER = new Set(['welcome', 'offer', 'ack', 'lease', 'cancel', 'revoke', 'forget', 'goaway', 'token', 'config', 'err'])

export const decodeToRouter = (text: string): Decoded<ToRouter> => decodeControl(ToRouter, TO_ROUTER, text)
export const decodeToRunner = (text: string): Decoded<ToRunner> => decodeControl(ToRunner, TO_RUNNER, text)
