/** What the gateway says no to by itself, in the shape of the API; the CLI repeats the words in its result. */
import type { ServerResponse } from 'node:http'
import { errorBody, sendJson } from '../demo/messages-sse.ts'

/** By these the end of a turn is told from a provider's own 402 and 403: see claude/outcome. */
export const BUDGET_IS_SPENT = 'the budget of this run is spent'
export const NOT_THAT_MODEL = 'no provider of this run may be asked for'

/** `retry`: of what may pass. Without a header the CLI would decide by the status. */
export function refuse(response: ServerResponse, status: number, type: string, message: string, { retry = false, close = false } = {}): void {
  sendJson(response, status, errorBody(type, message), { 'x-should-retry': String(retry), ...(close ? { connection: 'close' } : {}) })
}
