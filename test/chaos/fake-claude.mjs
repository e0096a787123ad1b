#!/usr/bin/env node
/**
 * A CLI that prints what it is told to, and keeps a diary of it: the truth that the oracle holds subscribers against.
 *
 * It speaks as much stream-json as the driver needs (2.1.197), for as many turns as it is given. A prompt is a plan in JSON:
 * `{key, lines, everyMs, bytes, big?, orphan?, stubborn?}`. Diary: `$CHAOS_LOG/<key>.log`, one record a line, written around
 * each print, so that it is true even of a process that is killed in between: `start <pid>`, `child <pid>`, `p <n> <sha>`
 * before and `w <n>` after, `cut` at an interrupt, `end`. An `orphan` leaves a process behind; what is `stubborn` stays when its stdin is closed.
 */
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { closeSync, openSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'

const VERSION = '2.1.197'
if (process.argv.includes('--version')) {
  process.stdout.write(`${VERSION} (Claude Code)\n`)
  process.exit(0)
}

const sha = (text) => createHash('sha256').update(text).digest('hex').slice(0, 16)
const sessionId = process.argv.map((arg) => /^--(?:session-id|resume)=(.*)$/.exec(arg)?.[1]).findLast((id) => id !== undefined) ?? ''
/** Three bytes a character, so that a cut at a chunk border would show. */
const PAD = '漢字かな€'

let diary
let printed = 0
let timer
let turnOver = true
/** An orphan goes on when its runner is gone, as a tool does that nobody told. */
let orphan = false
let stubborn = false
/** Of all turns, as the real one counts. In billionths, so that their sum is exact. */
let totalNanos = 0

const note = (record) => diary !== undefined && writeSync(diary, `${record}\n`)

function write(text) {
  const bytes = Buffer.from(text)
  try {
    for (let at = 0; at < bytes.length; ) at += writeSync(1, bytes, at)
    return true
  } catch {
    // Nobody reads any more.
    if (!orphan && !stubborn) process.exit(1)
    return false
  }
}

function print(event) {
  const line = JSON.stringify(event)
  const n = ++printed
  note(`p ${n} ${sha(line)}`)
  if (write(`${line}\n`)) note(`w ${n}`)
}

const answer = (id, response) => write(`${JSON.stringify({ type: 'control_response', response: { subtype: 'success', request_id: id, response } })}\n`)

function result(more) {
  if (turnOver) return
  turnOver = true
  clearTimeout(timer)
  // No sum of these is a round number.
  const nanos = Math.round((printed * 1e9) / 700)
  totalNanos += nanos
  print({
    type: 'result',
    subtype: 'success',
    is_error: false,
    result: `${printed} lines`,
    session_id: sessionId,
    num_turns: 1,
    total_cost_usd: totalNanos / 1e9,
    cost_of_turn_usd: nanos / 1e9,
    usage: { input_tokens: 1, output_tokens: printed, cache_creation_input_tokens: 0, cache_read_input_tokens: 0 },
    ...more,
  })
  note('end')
}

function turn({ key, lines, everyMs, bytes, big, orphan: leavesOrphan = false, stubborn: stays = false }) {
  if (diary !== undefined) closeSync(diary)
  diary = openSync(join(process.env.CHAOS_LOG ?? '.', `${key}.log`), 'a')
  note(`start ${process.pid}`)
  printed = 0
  turnOver = false
  stubborn ||= stays
  orphan = leavesOrphan
  print({ type: 'system', subtype: 'init', session_id: sessionId, model: 'fake', claude_code_version: VERSION, key })
  if (leavesOrphan) {
    print({ type: 'assistant', message: { content: [{ type: 'tool_use', id: 't', name: 'Bash', input: {} }] }, session_id: sessionId })
    const child = spawn('sleep', ['600'], { detached: true, stdio: 'ignore' })
    child.unref()
    note(`child ${child.pid}`)
  }
  let n = 0
  const next = () => {
    if (turnOver) return
    if (n === lines) return result()
    n++
    const size = big !== undefined && n === Math.ceil(lines / 2) ? big : bytes
    const pad = PAD.repeat(Math.ceil(size / 15))
    print({ type: 'stream_event', n, at: Math.round(performance.now()), sha: sha(pad), pad })
    timer = setTimeout(next, everyMs)
  }
  next()
}

const input = createInterface({ input: process.stdin })
input.on('line', (line) => {
  const message = JSON.parse(line)
  if (message.type === 'user') return turn(JSON.parse(message.message.content))
  if (message.type !== 'control_request') return
  const { request_id: id, request } = message
  if (request.subtype === 'get_binary_version') return answer(id, { version: VERSION })
  answer(id, request.subtype === 'initialize' ? { commands: [], agents: [], models: [] } : {})
  if (request.subtype !== 'interrupt' || diary === undefined || turnOver) return
  note('cut')
  result({ subtype: 'error_during_execution', is_error: true, terminal_reason: 'aborted_streaming', errors: [] })
})
input.on('close', () => {
  if (!stubborn && (!orphan || turnOver)) process.exit(0)
})
