/** One stream of the load client: its request, its answer, and what its reader made of it. */
import { randomInt } from 'node:crypto'
import { request, type IncomingMessage } from 'node:http'
import type { StreamReport, StreamSpec } from './client.ts'
import { nowUs } from './pattern.ts'
import { Reader, type Look } from './reader.ts'

/** So that two runs hardly ever have the same. */
const SALTS = 2 ** 31
const SAID_CHARS = 500
const TIMEOUT_S = 3_600

export class Stream {
  readonly spec: StreamSpec
  readonly begun: Promise<void>
  readonly ended: Promise<StreamReport>
  /** Of the run that it reads: whoever follows the run of another stream has to be told. */
  readonly salt: number
  #response: IncomingMessage | undefined
  #held = false
  #cancelled = false
  /** Why its run was not cancelled when it was asked to be. */
  #refused: string | undefined

  /** `looking` is asked for each piece. */
  constructor(spec: StreamSpec, looking: () => Look | undefined) {
    this.spec = spec
    this.salt = spec.salt ?? randomInt(SALTS)
    let begin: () => void = () => undefined
    this.begun = new Promise((resolve) => (begin = resolve))
    this.ended = this.#read(looking, begin).finally(begin)
  }

  get run(): string {
    return this.spec.run ?? (this.#response?.headers['x-run-id'] as string | undefined) ?? ''
  }

  get status(): number {
    return this.#response?.statusCode ?? 0
  }

  hold(held: boolean): void {
    this.#held = held
    if (held) this.#response?.pause()
    else this.#response?.resume()
  }

  /** Asks the server to cancel its run; it still ends as streams do. */
  async cancel(): Promise<void> {
    this.#cancelled = true
    const { port, token } = this.spec
    const response = await send({ port, method: 'POST', path: `/v1/runs/${this.run}/cancel`, headers: { authorization: `Bearer ${token}` } })
    const said = await text(response)
    if (response.statusCode !== 200 && response.statusCode !== 202) this.#refused = `its cancel answered ${response.statusCode}: ${said}`
  }

  async #read(looking: () => Look | undefined, begin: () => void): Promise<StreamReport> {
    const { plan, after = 0 } = this.spec
    const endless = plan?.everyMs !== undefined && plan.lines === undefined
    const reader = new Reader({ after, bytes: plan?.bytes, lines: plan?.lines, salt: this.salt, endless })
    const began = nowUs()
    let said: string | undefined
    try {
      const response = await this.#ask()
      this.#response = response
      if (response.statusCode === 200) {
        response.on('data', (piece: Buffer) => {
          reader.push(piece, nowUs(), looking())
          if (reader.firstLineUs !== undefined) begin()
        })
        if (this.#held) response.pause()
        await closed(response)
      } else said = await text(response)
    } catch (error) {
      said = error instanceof Error ? error.message : String(error)
    }
    const counts = reader.end(this.#cancelled)
    if (this.#refused !== undefined) counts.broken++
    said ??= this.#refused
    const ms = (us: number) => (us - began) / 1_000
    return {
      run: this.run,
      salt: this.salt,
      status: this.status,
      ...(said === undefined ? {} : { said }),
      counts,
      events: reader.events,
      lines: reader.lines,
      bytes: reader.bytes,
      firstLineMs: reader.firstLineUs === undefined ? Number.NaN : ms(reader.firstLineUs),
      endMs: ms(nowUs()),
      longestGapMs: reader.longestGapUs / 1_000,
    }
  }

  #ask(): Promise<IncomingMessage> {
    const { port, token, plan, prompt, body, run, after } = this.spec
    const headers: Record<string, string> = { authorization: `Bearer ${token}`, accept: 'text/event-stream' }
    if (run !== undefined) return send({ port, method: 'GET', path: `/v1/runs/${run}/events?after=${after ?? 0}`, headers })
    const sent = JSON.stringify({ prompt: prompt ?? JSON.stringify({ ...plan, salt: this.salt }), timeout_s: TIMEOUT_S, ...body })
    headers['content-type'] = 'application/json'
    headers['content-length'] = String(Buffer.byteLength(sent))
    return send({ port, method: 'POST', path: '/v1/runs', headers }, sent)
  }
}

export type Sent = { port: number; method: string; path: string; headers: Record<string, string> }

export function send(to: Sent, body?: string): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const outgoing = request({ host: '127.0.0.1', agent: false, ...to }, resolve)
    outgoing.setNoDelay(true)
    outgoing.on('error', reject)
    outgoing.end(body)
  })
}

/** However it ended: what is missing is seen in what came. */
function closed(response: IncomingMessage): Promise<void> {
  return new Promise((resolve) => {
    response.once('close', resolve)
    response.once('error', () => resolve())
  })
}

async function text(response: IncomingMessage): Promise<string> {
  const pieces: Buffer[] = []
  for await (const piece of response) pieces.push(piece as Buffer)
  return Buffer.concat(pieces).toString().slice(0, SAID_CHARS)
}
