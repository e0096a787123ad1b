import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { decodeToRouter, decodeToRunner, type ToRouter, type ToRunner } from './frames.ts'

const run = `run_${'0'.repeat(31)}1`
const session = '0190a8c4-7c1e-7000-8000-000000000001'
const spec = { tenant: 'default', session: { mode: 'new', id: session }, prompt: 'hi', timeout_s: 60 } as const

const toRouter: ToRouter[] = [
  {
    t: 'hello',
    proto: [1, 1],
    boot: session,
    conn: 1,
    agent: '0.1.0',
    cli: null,
    os: 'linux',
    caps: [],
    slots: 4,
    labels: { gpu: 'no' },
    provider: 'demo',
    runs: [{ run, fence: 1, state: 'running', last: 0 }],
  },
  { t: 'accept', re: 'o1', run, fence: 1, cwd: '/work' },
  { t: 'reject', re: 'o1', run, fence: 1, code: 'cwd', message: 'no such directory' },
  { t: 'starting', run, fence: 1 },
  { t: 'mark', run, fence: 1, seq: 1, mark: { kind: 'exit', code: 0, signal: null, reason: 'completed', duration_ms: 1 } },
  { t: 'hb', id: 'h1', runs: [[run, 1, 7]], free: 0, load: 0.5, disk_free: 1e9 },
  { t: 'refresh', assertion: 'x.y.z' },
  { t: 'drain' },
  { t: 'bye' },
  { t: 'err', code: 'internal', message: 'oh' },
]
const toRunner: ToRunner[] = [
  {
    t: 'welcome',
    proto: 1,
    epoch: 1,
    ping_ms: 1,
    dead_ms: 1,
    lease_ms: 1,
    grace_ms: 1,
    max_msg: 1,
    credit: 1,
    resume: [{ run, fence: 1, ack: 0, part: 0, do: 'continue' }],
  },
  { t: 'offer', id: 'o1', run, fence: 1, spec, start_by_ms: 15_000 },
  { t: 'ack', a: [[run, 1, 0, 2, 1]] },
  { t: 'lease', re: 'h1', l: [[run, 1, 60_000]] },
  { t: 'cancel', id: 'c1', run, fence: 1, mode: 'interrupt', grace_ms: 0 },
  { t: 'revoke', run, fence: 1 },
  { t: 'forget', run, fence: 1 },
  { t: 'goaway', reason: 'restart', after_ms: [0, 1_000] },
  { t: 'token', token: 'x', expires_in_s: 900 },
  { t: 'err', re: 'h1', code: 'internal', message: 'oh' },
]
const [hello, accept, reject, starting, mark, hb] = toRouter
const [welcome, offer, ack, lease, cancel, revoke] = toRunner

describe('a control message', () => {
  it.each(toRouter.map((m) => [m.t, m] as const))('%s reaches the router as it was sent', (_t, message) => {
    expect(decodeToRouter(JSON.stringify(message))).toEqual({ ok: true, message })
  })

  it.each(toRunner.map((m) => [m.t, m] as const))('%s reaches the runner as it was sent', (_t, message) => {
    expect(decodeToRunner(JSON.stringify(message))).toEqual({ ok: true, message })
  })

  it('of a type that is not known here is named and not an error, so that the other end may be newer', () => {
    expect(decodeToRouter('{"t":"teleport","x":1}')).toEqual({ ok: false, unknown: 'teleport' })
    expect(decodeToRunner('{"t":"hello"}')).toEqual({ ok: false, unknown: 'hello' })
    expect(decodeToRouter('{"t":"constructor"}')).toEqual({ ok: false, unknown: 'constructor' })
    expect(decodeToRouter(JSON.stringify({ t: 'x'.repeat(10_000) }))).toEqual({ ok: false, unknown: 'x'.repeat(64) })
  })

  it('may have fields that are not known here; they are left out', () => {
    expect(decodeToRouter('{"t":"drain","in_ms":5}')).toEqual({ ok: true, message: { t: 'drain' } })
  })

  it.each(['', 'ping', '{', 'null', '[]', '"hello"', '42', '{}', '{"t":1}', '{"t":null}'])('%s is malformed', (text) => {
    for (const decode of [decodeToRouter, decodeToRunner]) expect(decode(text)).toMatchObject({ ok: false, reason: expect.any(String) })
  })

  it.each<[string, object]>([
    ['a hello without its runs', { ...hello, runs: undefined }],
    ['a hello with one protocol version', { ...hello, proto: [1] }],
    ['a hello with a state that a runner does not have', { ...hello, runs: [{ run, fence: 1, state: 'lost', last: 0 }] }],
    ['a hello with a label that breaks a line', { ...hello, labels: { 'a\nb': 'x' } }],
    ['an accept without a cwd', { ...accept, cwd: '' }],
    ['an accept of a run that is a path', { ...accept, run: '../x' }],
    ['a reject with a code that is not in the table', { ...reject, code: 'because' }],
    ['a starting without a fence', { ...starting, fence: undefined }],
    ['a mark that takes seq 0', { ...mark, seq: 0 }],
    ['a mark of an unknown kind', { ...mark, mark: { kind: 'party' } }],
    ['an exit for an unknown reason', { ...mark, mark: { kind: 'exit', code: 0, signal: null, reason: 'bored', duration_ms: 1 } }],
    ['a heartbeat with a run that has no seq', { ...hb, runs: [[run, 1]] }],
    ['a heartbeat with fewer than no slots', { ...hb, free: -1 }],
  ])('%s closes the link', (_what, body) => {
    expect(decodeToRouter(JSON.stringify(body))).toMatchObject({ ok: false, reason: expect.any(String) })
  })

  it.each<[string, object]>([
    ['a welcome without what to do', { ...welcome, resume: [{ run, fence: 1, ack: 0, part: 0 }] }],
    ['an offer with argv', { ...offer, spec: { ...spec, model: '--dangerously-skip-permissions' } }],
    ['an offer of fence 0', { ...offer, fence: 0 }],
    ['an ack without a window', { ...ack, a: [[run, 1, 0, 0]] }],
    ['a lease that lasts no time', { ...lease, l: [[run, 1, 0]] }],
    ['a cancel of an unknown kind', { ...cancel, mode: 'politely' }],
    ['a revoke of no run', { ...revoke, run: 'run_1' }],
  ])('%s closes the link', (_what, body) => {
    expect(decodeToRunner(JSON.stringify(body))).toMatchObject({ ok: false, reason: expect.any(String) })
  })

  it('is refused with a reason that fits a close frame, whatever characters it names', () => {
    const text = fc.string({ unit: 'binary', minLength: 1 }).map((s) => s.repeat(60))
    fc.assert(
      fc.property(text, (label) => {
        const decoded = decodeToRouter(JSON.stringify({ ...hello, labels: { [label]: 1 } }))
        const reason = 'reason' in decoded ? decoded.reason : ''
        expect(reason).toMatch(/^hello: labels/)
        // RFC 6455 §5.5 leaves 123 bytes; past that a socket throws instead of closing.
        expect(Buffer.byteLength(reason)).toBeLessThanOrEqual(123)
      }),
    )
  })
})
