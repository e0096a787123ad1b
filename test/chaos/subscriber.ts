/**
 * A native client of the event stream: reads, notes what it sees, and resumes with `Last-Event-ID` after every cut.
 *
 * It judges nothing. Whether what it saw is right is for the oracle to say.
 */
import { createHash } from 'node:crypto'
import { request, type IncomingMessage } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { createParser } from 'eventsource-parser'
import type { Watch } from './oracle.ts'

export type Where = { port: number; token: string }
export type Answer = { status: number; body: string }

/** As long as the shortest that a browser waits; the jitter keeps the clients of one router apart. */
const RETRY_MS: [number, number] = [100, 300]
/** The router comments every 15 s; a stream that is silent longer is dead. */
const SILENCE_MS = 20_000

export type Follow = {
  where: () => Where
  run: string
  what: string
  after: number
  /** Ends the following, whatever it has seen. */
  signal: AbortSignal
  /** Not reading for so long after the first events: a client whose machine hangs. */
  stallMs?: number
}

export async function follow({ where, run, what, after, signal, stallMs }: Follow): Promise<Watch> {
  const watch: Watch = { what, after, events: [], finished: false }
  let stall = stallMs
  while (!signal.aborted && !watch.finished && watch.refused === undefined) {
    try {
      const last = watch.events.at(-1)?.id ?? after
      const response = await get(where(), `/v1/runs/${run}/events`, { 'last-event-id': String(last) }, signal)
      if (response.statusCode === 204) watch.finished = true
      else if (response.statusCode === 200) {
        await readEvents(response, watch, stall)
        stall = undefined
      } else {
        const body = await text(response)
        // 4xx is an answer about the cursor or the run, and no retry changes it; the rest is trouble that passes.
        if (response.statusCode! < 500 && response.statusCode !== 429) watch.refused = `${response.statusCode} ${body.slice(0, 120)}`
      }
    } catch {
      // Cut: the cursor stays where it is.
    }
    if (!watch.finished) await sleep(RETRY_MS[0] + Math.random() * (RETRY_MS[1] - RETRY_MS[0]), undefined, { signal }).catch(() => undefined)
  }
  return watch
}

async function readEvents(response: IncomingMessage, watch: Watch, stallMs: number | undefined): Promise<void> {
  const decoder = new TextDecoder()
  const parser = createParser({
    onEvent: ({ id, event = 'message', data }) => {
      // The place of a run that waits is a notice, not an event of the run.
      if (event === 'queued') return
      const sha = createHash('sha256').update(data).digest('hex').slice(0, 16)
      watch.events.push({ id: Number(id), event, sha, at: performance.now(), ...(event === 'message' && !data.startsWith('{"type":"result"') ? {} : { data }) })
      if (event === 'done') watch.finished = true
    },
  })
  response.setTimeout(SILENCE_MS, () => response.destroy())
  for await (const chunk of response) {
    parser.feed(decoder.decode(chunk as Buffer, { stream: true }))
    if (stallMs !== undefined) {
      response.setTimeout(0)
      await sleep(stallMs)
      response.setTimeout(SILENCE_MS, () => response.destroy())
      stallMs = undefined
    }
  }
}

/** One request on a connection of its own. Rejects when there is no answer. */
export async function call(where: Where, method: string, path: string, body?: object, headers: Record<string, string> = {}, timeoutMs = 30_000): Promise<Answer> {
  const signal = AbortSignal.timeout(timeoutMs)
  const response = await send(where, method, path, headers, signal, body === undefined ? undefined : JSON.stringify(body))
  return { status: response.statusCode!, body: await text(response) }
}

const get = (where: Where, path: string, headers: Record<string, string>, signal: AbortSignal) =>
  send(where, 'GET', path, { accept: 'text/event-stream', ...headers }, signal)

function send({ port, token }: Where, method: string, path: string, headers: Record<string, string>, signal: AbortSignal, body?: string): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const outgoing = request(
      {
        host: '127.0.0.1',
        port,
        method,
        path,
        agent: false,
        signal,
        headers: { authorization: `Bearer ${token}`, ...(body === undefined ? {} : { 'content-type': 'application/json' }), ...headers },
      },
      resolve,
    )
    outgoing.on('error', reject)
    outgoing.end(body)
  })
}

async function text(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of response) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks).toString()
}
