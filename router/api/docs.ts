/**
 * `/docs`: the OpenAPI document as a page. Everything on it comes from here: a page that sees tokens loads no code of
 * anybody else's, and its policy makes browsers hold to that.
 *
 * The files are the host's to find; where it has none, the page says so.
 */
import { Fault } from '../../shared/faults.ts'
import { VERSION } from '../../shared/version.ts'
import { newRouter } from '../guard/router.ts'

/** Of the package that scripts/postbuild.mjs copies them from. It is in their URLs, so that they can be kept for good. */
export const SWAGGER_UI = '5.35.0'
const BASE = `/docs/assets/${VERSION}-${SWAGGER_UI}`

const TYPES: Record<string, string> = {
  'swagger-ui.css': 'text/css; charset=utf-8',
  'swagger-ui-bundle.js': 'text/javascript; charset=utf-8',
  'init.js': 'text/javascript; charset=utf-8',
  'favicon-32x32.png': 'image/png',
}

/** Swagger UI has its icons in `data:` URLs, and asks for nothing but the document and what is tried out. */
const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' data:",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ')

export const docs = newRouter()

docs.get('/docs', (c) => {
  c.header('content-security-policy', POLICY)
  c.header('cache-control', 'no-cache')
  c.header('content-type', 'text/html; charset=utf-8')
  return c.body(PAGE)
})

const PAGE = `<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <title>Runyard API</title>
    <link rel="icon" type="image/png" href="${BASE}/favicon-32x32.png">
    <link rel="stylesheet" href="${BASE}/swagger-ui.css">
  </head>
  <body>
    <noscript>This page needs JavaScript; the document itself is at <a href="/openapi.json">/openapi.json</a>.</noscript>
    <div id="docs"></div>
    <script src="${BASE}/swagger-ui-bundle.js"></script>
    <script src="${BASE}/init.js"></script>
  </body>
</html>
`

docs.get(`${BASE}/:file`, async (c) => {
  const file = c.req.param('file')
  const type = Object.hasOwn(TYPES, file) ? TYPES[file] : undefined
  const body = type && (await c.get('deps').assets?.(file))
  if (type === undefined || !body) throw new Fault('not_found', `no file ${file.slice(0, 64)}: the router was built without it`)
  return c.body(body, 200, { 'content-type': type, 'cache-control': 'public, max-age=31536000, immutable' })
})

// Where older servers have theirs.
for (const path of ['/docs/', '/redoc', '/api-docs', '/api-docs/']) docs.get(path, (c) => c.redirect('/docs', 302))
docs.get('/api-docs.json', (c) => c.redirect('/openapi.json', 302))
