/**
 * The only place where routes are mounted. A host gives it a way to its `Deps` and gets a fetch handler back.
 */
import type { OpenAPIHono } from '@hono/zod-openapi'
import type { Context, MiddlewareHandler } from 'hono'
import { bodyLimit } from 'hono/body-limit'
import { createMiddleware } from 'hono/factory'
import { requestId } from 'hono/request-id'
import { secureHeaders } from 'hono/secure-headers'
import { Fault } from '../shared/faults.ts'
import { identityRoutes } from './admin/identity-routes.ts'
import { adminRoutes } from './admin/routes.ts'
import { batches } from './api/batches.ts'
import { config } from './api/config.ts'
import { docs } from './api/docs.ts'
import { enroll } from './api/enroll.ts'
import { health } from './api/health.ts'
import { serveDocument } from './api/openapi.ts'
import { models } from './api/models.ts'
import { processes } from './api/processes.ts'
import { MAX_BODY } from './api/run-schemas.ts'
import { runDeliveries } from './api/run-deliveries.ts'
import { runEvents } from './api/run-events.ts'
import { runPriority } from './api/run-priority.ts'
import { runnerConnect } from './api/runner-connect.ts'
import { runnerToken } from './api/runner-token.ts'
import { runners } from './api/runners.ts'
import { runs } from './api/runs.ts'
import { sessionMessages } from './api/session-messages.ts'
import { sessions } from './api/sessions.ts'
import { usage } from './api/usage.ts'
import { FAMILIES, familyOf } from './compat/families.ts'
import { jwks } from './guard/jwks.ts'
import { perimeter } from './guard/perimeter.ts'
import { asFault, problem, refusalHeaders } from './guard/problem.ts'
import { newRouter } from './guard/router.ts'
import type { AppEnv, Deps } from './ports.ts'

export function createApp(getDeps: (c: Context<AppEnv>) => Deps): OpenAPIHono<AppEnv> {
  const app = newRouter()
  app.use(requestId({ generator: () => crypto.randomUUID() }))
  app.use(
    createMiddleware<AppEnv>(async (c, next) => {
      c.set('deps', getDeps(c))
      await next()
    }),
  )
  app.use(secureHeaders({ xFrameOptions: 'DENY', strictTransportSecurity: 'max-age=31536000; includeSubDomains' }))
  app.use(perimeter())
  app.use(onlyIfSpoken)
  app.use((c, next) => limitBody(familyOf(c.req.path)?.maxBody ?? MAX_BODY)(c, next))
  app.use(jsonBodies)

  for (const routes of [docs, health, jwks, enroll, runnerToken, runnerConnect, runners, runDeliveries, runEvents, runs, sessions, sessionMessages, runPriority, batches, models, processes, usage, config, ...adminRoutes, ...identityRoutes]) app.route('/', routes)
  for (const { routes } of FAMILIES) app.route('/', routes)

  serveDocument(app, (path) => familyOf(path) !== undefined)

  app.notFound((c) => refuse(c, new Fault('not_found', `no route ${c.req.method} ${c.req.path.slice(0, 128)}`)))
  app.onError((error, c) => {
    const fault = asFault(error)
    // What went wrong stays here; the client gets the id to ask about.
    if (fault.code === 'internal' || fault.code === 'storage') c.get('deps').log.error({ err: error, request_id: c.get('requestId'), path: c.req.path }, 'a request failed')
    return refuse(c, fault)
  })
  return app
}

/** In the dialect of whoever was asked. A family that is switched off says nothing, not even no. */
function refuse(c: Context<AppEnv>, fault: Fault): Response {
  refusalHeaders(c, fault)
  const family = c.get('silent') ? undefined : familyOf(c.req.path)
  return family ? family.refuse(c, fault) : problem(c, fault)
}

/** Paths of a family that is switched off are nobody's. */
const onlyIfSpoken = createMiddleware<AppEnv>(async (c, next) => {
  const family = familyOf(c.req.path)
  if (family && !(await c.get('deps').catalog.compat())[family.name].enabled) {
    c.set('silent', true)
    throw new Fault('not_found', `no route ${c.req.method} ${c.req.path.slice(0, 128)}`)
  }
  await next()
})

const limits = new Map<number, MiddlewareHandler>()
function limitBody(maxSize: number): MiddlewareHandler {
  const known = limits.get(maxSize)
  if (known) return known
  const onError = (): never => {
    throw new Fault('too_large', `the body is larger than ${maxSize} bytes`)
  }
  const counted = bodyLimit({ maxSize, onError })
  // It looks at the body even where its length is known, and a body that was looked at and not read has Node's adapter close
  // the connection half a second later (@hono/node-server 2.1.8), in the middle of somebody's next request.
  const made: MiddlewareHandler = (c, next) => {
    const length = c.req.header('content-length')
    const isChunked = c.req.header('transfer-encoding') !== undefined
    // Most requests: there is nothing to look at, and looking makes Node's adapter build a whole Request for it.
    if (length === undefined && !isChunked && /^(?:GET|HEAD)$/.test(c.req.method)) return next()
    if (length === undefined || isChunked) return counted(c, next)
    return Number(length) > maxSize ? onError() : next()
  }
  limits.set(maxSize, made)
  return made
}

/** `curl -d` says it sends a form; a body that is skipped for that reason would be a puzzle. */
const jsonBodies = createMiddleware<AppEnv>(async (c, next) => {
  const type = c.req.header('content-type')
  const hasBody = c.req.header('transfer-encoding') !== undefined || Number(c.req.header('content-length') ?? 0) > 0
  if (hasBody && !/^application\/([\w.-]+\+)?json\b/i.test(type ?? '')) {
    throw new Fault('media_type', `the body must be JSON; send \`content-type: application/json\`${type ? `, not ${type.slice(0, 64)}` : ''}`)
  }
  await next()
})
