/**
 * One WebSocket to the router, from dialling to its end: pings, decoding, and why it ended.
 *
 * Silence counts more than close events: two missed pongs and it is dropped.
 */
import { WebSocket, type ClientOptions } from 'ws'
import { CLOSE, decodeToRunner, type ToRunner } from '../shared/frames.ts'
import { PING_MS, RUNNER_MAX_PAYLOAD } from '../shared/limits.ts'
import { SUBPROTOCOL } from '../shared/version.ts'
import type { Transport } from './sender.ts'

const HANDSHAKE_MS = 10_000
const MISSED_PONGS = 2
const LOOPBACK = new Set(['127.0.0.1', '[::1]', 'localhost'])

/** `liveMs` is 0 when the connection never opened. */
export type Ended = { code: number; reason: string; liveMs: number }

export interface ConnectionEvents {
  opened(transport: Transport): void
  message(message: ToRunner): void
  log(message: string, fields: Record<string, unknown>): void
}

export interface Connection {
  readonly ended: Promise<Ended>
  readonly open: boolean
  close(): void
}

/**
 * Masks keep a proxy from taking bytes that others chose for a request (RFC 6455 §10.3). On loopback nobody is in between,
 * and with a mask of zeros each end is spared a pass over every byte. TLS says nothing of it: it may end at a proxy that
 * speaks to the router in the clear.
 */
export function needsNoMask(url: string): boolean {
  return LOOPBACK.has(new URL(url).hostname)
}

export function connect(url: string, token: string, events: ConnectionEvents): Connection {
  const options: ClientOptions & { closeTimeout: number } = {
    headers: { authorization: `Bearer ${token}` },
    maxPayload: RUNNER_MAX_PAYLOAD,
    perMessageDeflate: false,
    handshakeTimeout: HANDSHAKE_MS,
    closeTimeout: 1_000,
    ...(needsNoMask(url) ? { generateMask: (mask: Buffer) => void mask.fill(0) } : {}),
  }
  const socket = new WebSocket(`${url.replace(/^http/, 'ws')}/v1/runners/connect`, [SUBPROTOCOL], options)
  let openedAt: number | undefined
  let why: { code: number; reason: string } | undefined
  let unanswered = 0
  let pinger: NodeJS.Timeout | undefined

  const drop = (code: number, reason: string) => {
    why ??= { code, reason }
    socket.terminate()
  }
  const ping = () => {
    if (unanswered >= MISSED_PONGS) return drop(CLOSE.liveness, 'the router no longer answers')
    unanswered++
    socket.send('ping')
    pinger = setTimeout(ping, PING_MS * (0.9 + Math.random() * 0.2))
  }
  socket.on('open', () => {
    openedAt = performance.now()
    events.opened({
      send: (data) => socket.send(data),
      get buffered() {
        return socket.bufferedAmount
      },
    })
    pinger = setTimeout(ping, PING_MS * Math.random())
  })
  socket.on('message', (data, isBinary) => {
    unanswered = 0
    if (isBinary) return refuse('a binary frame from the router')
    const text = (data as Buffer).toString()
    if (text === 'pong') return
    const decoded = decodeToRunner(text)
    if (decoded.ok) events.message(decoded.message)
    else if (decoded.unknown === undefined) refuse(decoded.reason)
    else events.log('a message of an unknown type was ignored', { t: decoded.unknown })
  })
  const refuse = (reason: string) => {
    events.log('the router sent a malformed message', { reason })
    socket.close(CLOSE.malformed, reason)
  }
  socket.on('unexpected-response', (_request, response) => {
    const { statusCode } = response
    response.resume()
    const code = statusCode === 401 || statusCode === 403 ? CLOSE.auth : statusCode === 426 ? CLOSE.version : 1006
    drop(code, `the router refused the connection with status ${statusCode}`)
  })
  // The close that follows reports it.
  socket.on('error', (error) => {
    why ??= { code: 1006, reason: error.message }
  })
  const ended = new Promise<Ended>((resolve) => {
    socket.on('close', (code, reason) => {
      clearTimeout(pinger)
      const liveMs = openedAt === undefined ? 0 : performance.now() - openedAt
      resolve({ ...(why ?? { code, reason: reason.toString() || 'closed' }), liveMs })
    })
  })
  return {
    ended,
    get open() {
      return socket.readyState === WebSocket.OPEN
    },
    close: () => socket.close(1000, 'bye'),
  }
}
