/** Lines at a pace, as `fake/claude.c` prints them and for the same plans, from a timer in place of a process. */
import { z } from 'zod'
import type { StartSource } from '../floor/source.ts'
import { fakeLine, nowUs } from '../load/pattern.ts'

/** Without `lines` it prints until it is interrupted. */
const Plan = z.object({ bytes: z.int().positive(), lines: z.int().positive().optional(), everyMs: z.int().positive(), salt: z.int().nonnegative() })

const INIT = Buffer.from('{"type":"system","subtype":"init","model":"simulated"}\n')
const USAGE = '"usage":{"input_tokens":1,"output_tokens":1,"cache_creation_input_tokens":0,"cache_read_input_tokens":0}'
const RESULT = Buffer.from(`{"type":"result","subtype":"success","is_error":false,"result":"done","num_turns":1,"total_cost_usd":0,${USAGE}}\n`)

/** Each call of the sink has one line. */
export const paced: StartSource = (prompt, sink) => {
  const { bytes, lines, everyMs, salt } = Plan.parse(JSON.parse(prompt))
  let printed = 0
  let paused = false
  const end = () => {
    clearInterval(pace)
    sink.lines(RESULT)
    sink.end()
  }
  const pace = setInterval(() => {
    if (paused) return
    sink.lines(fakeLine(++printed, bytes, nowUs(), salt))
    if (printed === lines) end()
  }, everyMs)
  // Its caller has to know it before it prints.
  queueMicrotask(() => sink.lines(INIT))
  return { pause: () => (paused = true), resume: () => (paused = false), interrupt: end }
}
