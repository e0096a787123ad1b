/** `GET /v1/runners/connect`: where a runner dials in. Everything is checked before the upgrade. */
import { Fault } from '../../shared/faults.ts'
import { PROTO_MAX, PROTO_MIN, SUBPROTOCOL } from '../../shared/version.ts'
import { requireRunner } from '../guard/authenticate.ts'
import { newRouter } from '../guard/router.ts'
import { standingOf } from '../store/runners.ts'

export const runnerConnect = newRouter()

runnerConnect.get('/v1/runners/connect', requireRunner(), async (c) => {
  if (c.req.header('upgrade')?.toLowerCase() !== 'websocket') throw new Fault('invalid_request', 'this route takes a WebSocket upgrade')
  const offered = (c.req.header('sec-websocket-protocol') ?? '').split(',').map((p) => p.trim())
  if (!offered.includes(SUBPROTOCOL)) {
    throw new Fault('version', `the subprotocol must be ${SUBPROTOCOL}`, { extra: { supported: [SUBPROTOCOL], versions: [PROTO_MIN, PROTO_MAX] } })
  }
  const { subject, tenant, pool } = c.get('principal')
  const { hub, store } = c.get('deps')
  const standing = await standingOf(store.db, subject)
  // What the guard knows may be two seconds old, and a connection lasts.
  if (typeof standing?.revokedAt === 'number') throw new Fault('unauthenticated', 'the runner was revoked')
  return hub.connect(c, { runner: subject, tenant, pool: pool ?? 'default', drained: typeof standing?.drainedAt === 'number' })
})
