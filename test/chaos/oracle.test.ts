/** The judge must find what it is there for: each rule broken once, in a story that is otherwise clean. */
import { describe, expect, it } from 'vitest'
import { judge, judgeRest, readDiary, type SeenEvent, type Story, type Watch } from './oracle.ts'

const LINES = 4

function diaryText(lines = LINES, written = lines, end = true): string {
  const records = Array.from({ length: lines }, (_, i) => `p ${i + 1} sha${i + 1}\n${i < written ? `w ${i + 1}\n` : ''}`)
  return `start 100\n${records.join('')}${end ? 'end\n' : ''}`
}

const done = (id: number, status = 'succeeded', code?: string): SeenEvent => {
  const data = JSON.stringify({ status, ...(code === undefined ? {} : { error: { code } }) })
  return { id, event: 'done', sha: data, data, at: id }
}
const line = (id: number): SeenEvent => ({ id, event: 'message', sha: `sha${id - 1}`, at: id })
const started: SeenEvent = { id: 1, event: 'started', sha: 's', data: '{}', at: 1 }
const gap = (id: number): SeenEvent => ({ id, event: 'gap', sha: 'g', data: '{}', at: id })

function seen(lines: number, end: (id: number) => SeenEvent = (id) => done(id)): SeenEvent[] {
  return [started, ...Array.from({ length: lines }, (_, i) => line(i + 2)), end(lines + 2)]
}
const watch = (events: SeenEvent[], more: Partial<Watch> = {}): Watch => ({ what: 'live', after: 0, events, finished: true, ...more })

function story(more: Partial<Story> = {}): Story {
  return {
    key: 'k',
    run: 'run_1',
    diary: readDiary(diaryText()),
    watches: [watch(seen(LINES)), watch(seen(LINES), { what: 'replay' })],
    cancelAsked: false,
    readerDied: false,
    alive: [],
    mayFail: [],
    ...more,
  }
}
const both = (events: SeenEvent[]) => [watch(events), watch(events, { what: 'replay' })]
const rules = (s: Story) => [...new Set(judge(s).map(({ rule }) => rule))]

describe('the oracle', () => {
  it('finds nothing in a clean run, nor in a late subscriber and one that resumed at the end', () => {
    const late = watch(seen(LINES).slice(3), { after: 3 })
    expect(judge(story({ watches: [late, watch([], { after: 6 }), watch(seen(LINES))] }))).toEqual([])
  })

  it('finds nothing in a CLI that waits for its next turn, after a cancel too', () => {
    expect(judge(story({ alive: [100] }))).toEqual([])
    expect(judge(story({ diary: readDiary(`child 7\n${diaryText()}`), alive: [100] }))).toEqual([])
    const cancelled = { watches: both(seen(LINES, (id) => done(id, 'cancelled', 'cancelled'))), cancelAsked: true, alive: [100] }
    expect(judge(story(cancelled))).toEqual([])
    expect(judge(story({ ...cancelled, diary: readDiary(`cut\n${diaryText()}`) }))).toEqual([])
  })

  it('finds nothing in a CLI that waits when its turn was over before the cancel, and a fault had killed its tool', () => {
    const cancelled = { watches: both(seen(LINES, (id) => done(id, 'cancelled', 'cancelled'))), cancelAsked: true }
    expect(judge(story({ ...cancelled, diary: readDiary(`child 7\n${diaryText()}`), alive: [100] }))).toEqual([])
    expect(rules(story({ ...cancelled, diary: readDiary(`child 7\n${diaryText()}`), alive: [100, 7] }))).toEqual(['cancelled'])
  })

  it('finds nothing in runs that a fault has ended, as long as it is said what is missing', () => {
    const crashed = seen(2, (id) => done(id, 'failed', 'crashed'))
    expect(judge(story({ diary: readDiary(diaryText(3, 2, false)), watches: both(crashed), mayFail: ['crashed'] }))).toEqual([])
    const restarted = seen(2, (id) => done(id, 'failed', 'runner_restarted'))
    expect(judge(story({ watches: both(restarted), mayFail: ['runner_restarted'], readerDied: true }))).toEqual([])
    const full = [...seen(2).slice(0, -1), gap(4), done(5, 'failed', 'spool_full')]
    expect(judge(story({ watches: both(full), mayFail: ['spool_full'] }))).toEqual([])
    expect(judge(story({ watches: both(seen(4, (id) => done(id, 'cancelled', 'cancelled'))), cancelAsked: true }))).toEqual([])
  })

  it.each<[string, string, Partial<Story>]>([
    ['a line that is missing at the end of a success', 'I1', { watches: both(seen(3)) }],
    ['lines that are missing at the end without a gap', 'I1', { watches: both(seen(2, (id) => done(id, 'failed', 'x'))), mayFail: ['x'] }],
    ['a success that the CLI never printed', 'I1', { diary: readDiary(diaryText(LINES, LINES, false)) }],
    ['an event that comes twice', 'I2', { watches: [watch([started, line(2), line(2), ...seen(LINES).slice(2)]), watch(seen(LINES))] }],
    ['an event that is left out', 'I3', { watches: [watch(seen(LINES).toSpliced(2, 1)), watch(seen(LINES))] }],
    ['events in the wrong order', 'I3', { watches: [watch([started, line(3), line(2), ...seen(LINES).slice(3)]), watch(seen(LINES))] }],
    ['bytes that were changed', 'I4', { watches: both(seen(LINES).with(2, { ...line(3), sha: 'other' })) }],
    ['lines that were numbered in another order', 'I4', { watches: both(seen(LINES).with(1, { ...line(3), id: 2 }).with(2, { ...line(2), id: 3 })) }],
    ['a line of another turn of its process', 'I4', { watches: both([started, line(2), line(3), { ...line(4), sha: 'of another' }, line(5), done(6)]) }],
    ['two subscribers that disagree', 'I4', { watches: [watch(seen(LINES).with(2, { ...line(3), sha: 'sha9' })), watch(seen(LINES))] }],
    ['half a line that no kill explains', 'I4', { watches: both([...seen(LINES).slice(0, -1), { ...gap(6), event: 'raw' }, done(7)]) }],
    ['two endings', 'I5', { watches: both([...seen(LINES), done(7)]) }],
    ['an event after the end', 'I5', { watches: both([...seen(LINES), gap(7)]) }],
    ['a stream that is over without an ending', 'I5', { watches: [watch(seen(LINES).slice(0, -1)), watch(seen(LINES))] }],
    ['a second start', 'I6', { diary: readDiary(`start 99\n${diaryText()}`) }],
    ['a start after a refusal', 'I6', { run: undefined, watches: [] }],
    ['an event that was shown and is gone', 'I8', { watches: [watch([...seen(LINES).slice(0, -1), gap(6), done(7)]), watch(seen(LINES))] }],
    ['a cursor that the router no longer knows', 'I8', { watches: [watch(seen(2).slice(0, -1), { finished: false, refused: '400 event_id' }), watch(seen(LINES))] }],
    ['a run without an end', 'I9', { watches: [watch(seen(2).slice(0, -1), { finished: false })] }],
    ['an ending that the fault does not excuse', 'ending', { watches: both(seen(LINES, (id) => done(id, 'failed', 'crashed'))) }],
    ['a run that is lost for nothing', 'ending', { watches: both(seen(LINES, (id) => done(id, 'lost', 'lost'))) }],
    ['a cancel that nobody asked for', 'ending', { watches: both(seen(LINES, (id) => done(id, 'cancelled', 'cancelled'))) }],
    ['a process that outlives its cancelled run', 'cancelled', { watches: both(seen(LINES, (id) => done(id, 'cancelled', 'cancelled'))), cancelAsked: true, alive: [7] }],
    ['a tool that outlives its turn with its CLI', 'cancelled', { diary: readDiary(`child 7\n${diaryText()}`), alive: [100, 7] }],
    ['a CLI that stays when its tool was cancelled', 'cancelled', { diary: readDiary(`child 7\ncut\n${diaryText()}`), watches: both(seen(LINES, (id) => done(id, 'cancelled', 'cancelled'))), cancelAsked: true, alive: [100] }],
    ['a CLI that goes on with a turn that is over', 'cancelled', { diary: readDiary(diaryText(LINES, LINES, false)), watches: both(seen(LINES, (id) => done(id, 'cancelled', 'cancelled'))), cancelAsked: true, alive: [100] }],
  ])('finds %s', (_what, rule, more) => {
    expect(rules(story(more))).toContain(rule)
  })

  it('takes a line for printed only when its record is whole', () => {
    expect(readDiary('start 1\nchild 2\np 1 aa\nw 1\np 2 bb\nw ')).toEqual({
      starts: 1,
      printed: [
        { sha: 'aa', written: true },
        { sha: 'bb', written: false },
      ],
      clis: [1],
      children: [2],
      cut: false,
      ended: false,
    })
  })

  it('names what is left at rest', () => {
    const nothing = { processes: [], 'spool files': [], 'folders of runs': [], streams: [], runs: [], 'objects that cannot hibernate': [] }
    expect(judgeRest(nothing)).toEqual([])
    expect(judgeRest({ ...nothing, 'spool files': ['a.spool'] }).map(({ rule }) => rule)).toEqual(['I11'])
    expect(judgeRest({ ...nothing, 'objects that cannot hibernate': ['runner-1'] }).map(({ rule }) => rule)).toEqual(['I11'])
    expect(judgeRest({ ...nothing, runs: ['run_1'] }).map(({ rule }) => rule)).toEqual(['I9'])
  })
})
