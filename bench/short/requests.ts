/**
 * A few keep-alive connections, each with one request under way at a time, for as long as it is told.
 *
 * It shares the processors with what it measures, so it reads of an answer no more than it must: status, length and, where
 * the caller knows them, the bytes. It speaks as much HTTP/1.1 as Node's server answers with a `content-length`.
 */
import { connect } from 'node:net'

export interface Job {
  readonly port: number
  readonly method: 'GET' | 'POST'
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
  readonly body?: string
  readonly status: number
  /** The body that every answer has; absent where it is never twice the same. */
  readonly answer?: string
  readonly connections: number
  readonly seconds: number
}

export interface Done {
  readonly answers: number
  /** Answers of another status or with other bytes, or with bytes behind them that nobody has asked for. */
  readonly wrong: number
  readonly seconds: number
  readonly p99_ms: number
}

const HEAD_END = Buffer.from('\r\n\r\n')
/** As Node writes it by itself, and as an application does. */
const LENGTHS = [Buffer.from('Content-Length: '), Buffer.from('content-length: ')]
/** `HTTP/1.1 ` */
const STATUS_AT = 9

/** Rejects when a connection breaks, or an answer has no `content-length`. */
export async function hammer(job: Job): Promise<Done> {
  const began = performance.now()
  const until = began + job.seconds * 1_000
  const each = await Promise.all(Array.from({ length: job.connections }, () => one(job, until)))
  const seconds = (performance.now() - began) / 1_000
  const took = Float64Array.from(each.flatMap((c) => c.took)).toSorted()
  const at = (q: number) => took[Math.min(took.length - 1, Math.floor(q * took.length))] ?? NaN
  return { answers: took.length, wrong: each.reduce((sum, c) => sum + c.wrong, 0), seconds, p99_ms: at(0.99) }
}

function one(job: Job, until: number): Promise<{ took: number[]; wrong: number }> {
  const request = encode(job)
  const status = Buffer.from(String(job.status))
  const answer = job.answer === undefined ? undefined : Buffer.from(job.answer)
  const took: number[] = []
  let wrong = 0
  let rest: Buffer | undefined
  let sentAt = 0
  const socket = connect({ host: '127.0.0.1', port: job.port, noDelay: true })
  return new Promise((resolve, reject) => {
    const next = () => {
      sentAt = performance.now()
      socket.write(request)
    }
    socket.once('connect', next)
    socket.on('error', reject)
    socket.on('close', () => reject(new Error('the server closed a connection')))
    socket.on('data', (piece: Buffer) => {
      const data = rest ? Buffer.concat([rest, piece]) : piece
      const body = bodyOf(data)
      if (body === 'no length') return void socket.destroy(new Error(`an answer without content-length: ${data.toString('latin1')}`))
      rest = body ? undefined : data
      if (!body) return
      const now = performance.now()
      took.push(now - sentAt)
      if (!data.subarray(STATUS_AT, STATUS_AT + status.length).equals(status) || (answer && !body.equals(answer)) || behind(data, body)) wrong++
      if (now < until) return next()
      socket.removeAllListeners('close')
      socket.destroy()
      resolve({ took, wrong })
    })
  })
}

/** Undefined while it is not all there. */
function bodyOf(data: Buffer): Buffer | 'no length' | undefined {
  const head = data.indexOf(HEAD_END)
  if (head < 0) return undefined
  const name = LENGTHS.find((length) => data.lastIndexOf(length, head) > 0)
  if (!name) return 'no length'
  const at = data.indexOf(name) + name.length
  const from = head + HEAD_END.length
  const bytes = Number(data.toString('latin1', at, data.indexOf('\r', at)))
  return data.length < from + bytes ? undefined : data.subarray(from, from + bytes)
}

/** Whether there is more than the one answer that was asked for. */
const behind = (data: Buffer, body: Buffer): boolean => body.byteOffset + body.length < data.byteOffset + data.length

function encode({ port, method, path, headers, body = '' }: Job): Buffer {
  const fields = { host: `127.0.0.1:${port}`, ...headers, ...(method === 'POST' ? { 'content-length': String(Buffer.byteLength(body)) } : {}) }
  const lines = [`${method} ${path} HTTP/1.1`, ...Object.entries(fields).map(([name, value]) => `${name}: ${value}`)]
  return Buffer.from(`${lines.join('\r\n')}\r\n\r\n${body}`)
}
