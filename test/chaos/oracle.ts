/**
 * The judge of a chaos run: what the CLI's diary says was printed, held against what each subscriber saw.
 *
 * Pure: the stories are collected elsewhere, and whoever asks decides what a violation costs. Rules carry the numbers of
 * docs/protocol.md; `ending` is a way to end that the fault does not excuse, `usage` a number that does not add up.
 */

export type Rule = 'I1' | 'I2' | 'I3' | 'I4' | 'I5' | 'I6' | 'I8' | 'I9' | 'I11' | 'ending' | 'cancelled' | 'usage'
export type Violation = { rule: Rule; key: string; what: string }

/** A line of the CLI. `written`: the whole of it had left the process. */
export type Printed = { sha: string; written: boolean }
/** What the diary of one prompt says. `children`: what its turn left behind; `cut`: an interrupt has ended it, and not the CLI. */
export type Diary = { starts: number; printed: Printed[]; clis: number[]; children: number[]; cut: boolean; ended: boolean }

/** `data` is kept for all but CLI lines, and for their results; `sha` is of the data. `at` is in ms of one clock. */
export type SeenEvent = { id: number; event: string; sha: string; data?: string; at: number }
/** One subscriber: it asked for what comes after event `after`, and `finished` when it had seen the end. */
export type Watch = { what: string; after: number; events: SeenEvent[]; finished: boolean; refused?: string }

export type Story = {
  key: string
  /** Undefined: the router never admitted to such a run. */
  run: string | undefined
  diary: Diary
  /** The last one reads all of it after the end. */
  watches: Watch[]
  cancelAsked: boolean
  /** The runner was killed meanwhile: what sat unread in the pipe is nobody's. */
  readerDied: boolean
  /** Pids of the diary that lived when a subscriber had read the end. */
  alive: number[]
  /** Error codes that the fault excuses. */
  mayFail: readonly string[]
}

export function readDiary(text: string): Diary {
  const diary: Diary = { starts: 0, printed: [], clis: [], children: [], cut: false, ended: false }
  // A record that its process did not finish writing has no line end.
  for (const record of text.split('\n').slice(0, -1)) {
    const [kind, first = '', second = ''] = record.split(' ')
    if (kind === 'start') diary.starts++
    if (kind === 'start') diary.clis.push(Number(first))
    if (kind === 'child') diary.children.push(Number(first))
    if (kind === 'p') diary.printed.push({ sha: second, written: false })
    if (kind === 'w') diary.printed[Number(first) - 1]!.written = true
    if (kind === 'cut') diary.cut = true
    if (kind === 'end') diary.ended = true
  }
  return diary
}

export function judge(story: Story): Violation[] {
  const found: Violation[] = []
  const say = (rule: Rule, what: string) => found.push({ rule, key: story.key, what })
  const { diary, watches } = story
  if (diary.starts > 1) say('I6', `the CLI started ${diary.starts} times`)
  if (story.run === undefined) {
    if (diary.starts > 0) say('I6', 'the CLI started for a request that was refused')
    return found
  }
  for (const watch of watches) judgeWatch(watch, say)
  judgeAgreement(watches, say)
  const whole = watches.at(-1)
  if (!whole?.finished || whole.after !== 0) return found
  judgeLines(story, whole, say)
  judgeEnding(story, whole, say)
  return found
}

type Say = (rule: Rule, what: string) => void

function judgeWatch({ what, after, events, finished, refused }: Watch, say: Say): void {
  let last = after
  let ended = false
  for (const { id, event } of events) {
    if (ended) say('I5', `${what}: ${event} ${id} came after the end`)
    if (id <= last) say('I2', `${what}: event ${id} came again after ${last}`)
    else if (id > last + 1) say('I3', `${what}: event ${id} came after ${last}`)
    last = Math.max(last, id)
    ended ||= event === 'done'
  }
  // What was shown must have been durable: a router that has not heard of it shows it before it is.
  if (refused !== undefined) say('I8', `${what}: was refused with ${refused}`)
  else if (!finished) say('I9', `${what}: saw no end; the last event was ${last}`)
  else if (!ended && events.length > 0) say('I5', `${what}: the stream was over without done`)
}

/** Everybody saw the same events, and what was shown once is there for good. */
function judgeAgreement(watches: readonly Watch[], say: Say): void {
  const known = new Map<number, SeenEvent>()
  for (const event of watches.at(-1)?.events ?? []) known.set(event.id, event)
  const last = watches.at(-1)
  for (const { what, events } of watches.slice(0, -1)) {
    for (const { id, event, sha } of events) {
      const other = known.get(id)
      if (!other && last?.finished) say('I8', `${what}: saw event ${id}, which is not there any more`)
      if (other && (other.sha !== sha || other.event !== event)) say('I4', `${what}: event ${id} was another one than in the replay`)
    }
  }
}

/** The lines are those of the diary from its beginning; what is missing at the end is named, or was never read. */
function judgeLines({ diary, readerDied }: Story, whole: Watch, say: Say): void {
  const lines = whole.events.filter(({ event }) => event === 'message')
  for (const [at, { id, sha }] of lines.entries()) {
    if (diary.printed[at]?.sha === sha) continue
    return say('I4', diary.printed.some((p) => p.sha === sha) ? `event ${id} is not line ${at + 1} of the CLI` : `event ${id} was never printed`)
  }
  // Half a line of a killed CLI.
  const raw = whole.events.filter(({ event }) => event === 'raw').length
  const written = diary.printed.filter((p) => p.written).length
  if (raw > diary.printed.length - written) say('I4', `${raw} events are raw, but the CLI printed ${written} of ${diary.printed.length} lines whole`)
  if (lines.length >= written) return
  const gap = whole.events.some(({ event }) => event === 'gap')
  const end = endingOf(whole)
  if (end.status === 'succeeded') say('I1', `${written} lines were printed and ${lines.length} are there of a run that succeeded`)
  else if (!gap && !readerDied) say('I1', `${written} lines were printed, ${lines.length} are there, and no gap says so (${end.status} ${end.code})`)
}

function judgeEnding({ diary, cancelAsked, mayFail, alive }: Story, whole: Watch, say: Say): void {
  const { status, code } = endingOf(whole)
  if (status === 'succeeded' && !diary.ended) say('I1', 'the run succeeded without a result of the CLI')
  if (status === 'cancelled' && !cancelAsked) say('ending', 'cancelled, and nobody asked for it')
  if ((status === 'failed' || status === 'lost') && !mayFail.includes(code)) say('ending', `${status} with ${code}`)
  if (!['succeeded', 'failed', 'cancelled', 'lost'].includes(status)) say('I5', `done says ${status}`)
  // Only of a lost run nobody knows whether it still works. The CLI may wait for a next turn; not where a tool was cancelled,
  // which a cancel that came when the turn was over has not done.
  const mayWait = diary.ended && !(diary.cut && diary.children.length > 0)
  const left = alive.filter((pid) => !(mayWait && diary.clis.includes(pid)))
  if (status !== 'lost' && left.length > 0) say('cancelled', `${status}, but ${left.join(', ')} still lived`)
}

export function endingOf({ events }: Watch): { status: string; code: string } {
  const done = events.findLast(({ event }) => event === 'done')
  if (!done?.data) return { status: 'none', code: '' }
  const { status, error } = JSON.parse(done.data) as { status: string; error?: { code: string } }
  return { status, code: error?.code ?? '' }
}

/** What must not be there once every run has ended. */
export type Rest = Readonly<Record<'processes' | 'spool files' | 'folders of runs' | 'streams' | 'runs' | 'objects that cannot hibernate', readonly string[]>>

export function judgeRest(rest: Rest): Violation[] {
  return Object.entries(rest).flatMap(([kind, left]): Violation[] => {
    if (left.length === 0) return []
    return [{ rule: kind === 'runs' ? 'I9' : 'I11', key: 'at rest', what: `${left.length} ${kind} left: ${left.slice(0, 3).join(' | ')}` }]
  })
}
