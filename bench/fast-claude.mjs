#!/usr/bin/env node
/**
 * A CLI that costs as little as one can: it prints lines as fast as the pipe takes them, or at a pace, and nothing else.
 *
 * It speaks as much stream-json as the driver needs (2.1.197). The prompt is a plan in JSON: `{lines, bytes}` prints them at
 * once, `{everyMs, bytes}` one at a time until it is interrupted. `at` in a line is when it was printed, in µs of the
 * machine's monotonic clock.
 */
import { writeSync } from 'node:fs'
import { createInterface } from 'node:readline'

const VERSION = '2.1.197'
if (process.argv.includes('--version')) {
  process.stdout.write(`${VERSION} (Claude Code)\n`)
  process.exit(0)
}

const CHUNK = 64 * 1024
const sessionId = process.argv.map((arg) => /^--(?:session-id|resume)=(.*)$/.exec(arg)?.[1]).findLast((id) => id !== undefined) ?? ''
let pending = ''
let timer

function flush() {
  const bytes = Buffer.from(pending)
  pending = ''
  for (let at = 0; at < bytes.length; ) at += writeSync(1, bytes, at)
}

function print(event) {
  pending += `${JSON.stringify(event)}\n`
  if (pending.length >= CHUNK) flush()
}

const now = () => Number(process.hrtime.bigint() / 1_000n)

function line(bytes) {
  const head = `{"type":"stream_event","at":${now()},"pad":"`
  pending += `${head}${'x'.repeat(Math.max(0, bytes - head.length - 3))}"}\n`
  if (pending.length >= CHUNK) flush()
}

function result() {
  clearInterval(timer)
  const usage = { input_tokens: 1, output_tokens: 1, cache_creation_input_tokens: 0, cache_read_input_tokens: 0 }
  print({ type: 'result', subtype: 'success', is_error: false, result: 'done', session_id: sessionId, num_turns: 1, total_cost_usd: 0, usage })
  flush()
}

function turn({ lines, bytes, everyMs }) {
  print({ type: 'system', subtype: 'init', session_id: sessionId, model: 'fast', claude_code_version: VERSION })
  if (everyMs === undefined) {
    for (let n = 0; n < lines; n++) line(bytes)
    return result()
  }
  flush()
  timer = setInterval(() => {
    line(bytes)
    flush()
  }, everyMs)
}

function answer(id, response) {
  print({ type: 'control_response', response: { subtype: 'success', request_id: id, response } })
  flush()
}

const input = createInterface({ input: process.stdin })
input.on('line', (text) => {
  const message = JSON.parse(text)
  if (message.type === 'user') return turn(JSON.parse(message.message.content))
  if (message.type !== 'control_request') return
  const { request_id: id, request } = message
  if (request.subtype === 'get_binary_version') return answer(id, { version: VERSION })
  answer(id, request.subtype === 'initialize' ? { commands: [], agents: [], models: [] } : {})
  if (request.subtype === 'interrupt') result()
})
input.on('close', () => process.exit(0))
