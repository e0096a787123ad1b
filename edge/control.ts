/**
 * A second, small Worker beside ours, on a loopback port of its own: workerd follows no cron, so somebody has to knock.
 * Every local process can reach that port, so it answers to nothing without a secret of this one start.
 *
 * Only on request, which is for tests, it can also throw objects out of memory.
 */

const CRON = `if (url.pathname === '/cron')
      return done(env.MAIN.scheduled({ cron: url.searchParams.get('cron'), scheduledTime: new Date() }))`
const UNSAFE = `const namespace = env[url.searchParams.get('class')]
    const stub = () => namespace.get(namespace.idFromName(url.searchParams.get('name')))
    if (url.pathname === '/evict') return done(unsafe.evict(stub(), { webSockets: url.searchParams.get('sockets') }))
    if (url.pathname === '/abort') return done(unsafe.abortAllDurableObjects())`

export function controlWorker(withUnsafe: boolean): string {
  return `${withUnsafe ? "import unsafe from 'workerd:unsafe'\n" : ''}
const failed = (error) => new Response(String(error), { status: 500 })
const done = (work) => Promise.resolve(work).then(() => new Response('ok'), failed)
export default {
  fetch(request, env) {
    const url = new URL(request.url)
    if (request.headers.get('authorization') !== env.SECRET) return new Response(null, { status: 403 })
    ${CRON}
    ${withUnsafe ? UNSAFE : ''}
    return new Response(null, { status: 404 })
  },
}
`
}

/** workerd waits 30 s for an object that is busy; nobody who asks wants that. */
const PATIENCE_MS = 5_000
const ALREADY_GONE = 'not currently running'

export interface Control {
  readonly url: string
  readonly secret: string
}

/** Throws what the other side answered, unless that is that there is nothing to throw out. */
export async function callControl(
  { url, secret }: Control,
  path: string,
  query: Record<string, string> = {},
  patienceMs = PATIENCE_MS,
): Promise<void> {
  const response = await fetch(`${url}${path}?${new URLSearchParams(query).toString()}`, {
    headers: { authorization: secret },
    signal: AbortSignal.timeout(patienceMs),
  })
  const said = await response.text()
  if (!response.ok && !said.includes(ALREADY_GONE)) throw new Error(`${path}: ${response.status} ${said}`)
}
