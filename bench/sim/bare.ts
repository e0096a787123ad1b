/** The floor for idle runners, a process: a WebSocket server that answers pings, and knows nobody. */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { WebSocketServer } from 'ws'
import type { Welcome } from '../../shared/frames.ts'
import { CONNECTION_WINDOW, DEAD_MS, GRACE_MS, LEASE_MS, MAX_MESSAGE, PING_MS, ROUTER_MAX_PAYLOAD } from '../../shared/limits.ts'
import { PROTO_MAX, SUBPROTOCOL } from '../../shared/version.ts'
import { answer } from '../children.ts'

const TIMERS = { ping_ms: PING_MS, dead_ms: DEAD_MS, lease_ms: LEASE_MS, grace_ms: GRACE_MS }
const WELCOME: Welcome = { t: 'welcome', proto: PROTO_MAX, epoch: 1, ...TIMERS, max_msg: MAX_MESSAGE, credit: CONNECTION_WINDOW, resume: [] }
const GREETING = Buffer.from(JSON.stringify(WELCOME))
const PING = Buffer.from('ping')
const PONG = Buffer.from('pong')

const server = createServer()
const sockets = new WebSocketServer({ server, perMessageDeflate: false, maxPayload: ROUTER_MAX_PAYLOAD, handleProtocols: () => SUBPROTOCOL })
sockets.on('connection', (socket) => {
  socket.on('message', (data) => socket.send(PING.equals(data as Buffer) ? PONG : GREETING, { binary: false }))
})
await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))

answer({ port: () => (server.address() as AddressInfo).port })
