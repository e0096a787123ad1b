/** The floor of short requests: a bare server that has its one answer ready and looks at nothing of what it is asked. */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

export interface Canned {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
}

/** Its port. */
export async function serve({ status, headers, body }: Canned): Promise<number> {
  const bytes = Buffer.from(body)
  const server = createServer({ noDelay: true }, (_request, response) => {
    response.writeHead(status, { ...headers, 'content-length': bytes.length })
    response.end(bytes)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return (server.address() as AddressInfo).port
}
