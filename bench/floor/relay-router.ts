/**
 * The router of the two-hop floor, a process: HTTP on one side, runners on the other, credit between them, and nothing else:
 * no database, no log, no identity, no limits. What it acknowledges is what the client's socket has room for.
 */
import type { ServerResponse } from 'node:http'
import { WebSocketServer, type WebSocket } from 'ws'
import { answer } from '../children.ts'
import { Framer } from './frame.ts'
import { ACK, CANCEL, RUN_BYTES, START, toRunner } from './relay-wire.ts'
import { listen } from './requests.ts'

interface Live {
  readonly response: ServerResponse
  readonly framer: Framer
  readonly runner: WebSocket
  cancelled: boolean
}

const live = new Map<number, Live>()
const runners: WebSocket[] = []
let turn = 0

const { port, server } = await listen({
  start(id, prompt, response) {
    const runner = runners[turn++ % runners.length]!
    live.set(id, { response, framer: new Framer(), runner, cancelled: false })
    runner.send(toRunner(START, id, prompt))
    response.once('close', () => live.has(id) && runner.send(toRunner(CANCEL, id)))
  },
  cancel(id) {
    const run = live.get(id)
    if (!run) return
    run.cancelled = true
    run.runner.send(toRunner(CANCEL, id))
  },
})

function take(message: Buffer): void {
  const id = message.readUInt32LE(0)
  const run = live.get(id)
  if (!run) return
  const bytes = message.length - RUN_BYTES
  if (bytes === 0) {
    live.delete(id)
    run.response.end(run.framer.done(run.cancelled ? 'cancelled' : 'succeeded'))
    return
  }
  const ack = () => run.runner.send(toRunner(ACK, id, bytes))
  if (run.response.write(run.framer.lines(message.subarray(RUN_BYTES)))) ack()
  else afterDrain(run.response, ack)
}

/** Of a client that has left, the rest is thrown away. */
function afterDrain(response: ServerResponse, act: () => void): void {
  if (response.destroyed) return act()
  const done = () => {
    response.off('drain', done).off('close', done)
    act()
  }
  response.on('drain', done).on('close', done)
}

const sockets = new WebSocketServer({ server, perMessageDeflate: false, maxPayload: 1024 * 1024 })
sockets.on('connection', (socket, request) => {
  request.socket.setNoDelay(true)
  runners.push(socket)
  socket.on('message', (data) => take(data as Buffer))
})

answer({ port: () => port })
