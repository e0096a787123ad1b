/** HTTP/1.1 as somebody wrote it by hand: for what `fetch` would not send. */
import { connect } from 'node:net'

/** What comes back for these header lines and this body, until it is whole or the other end closes. */
export function rawHttp(url: string, lines: readonly string[], body: string | Buffer = ''): Promise<string> {
  return new Promise((resolve, reject) => {
    const { hostname, port } = new URL(url)
    let text = ''
    const socket = connect(Number(port), hostname, () => {
      socket.write([...lines, '', ''].join('\r\n'))
      socket.write(body)
    })
    socket.on('data', (chunk) => {
      text += chunk.toString()
      if (isWhole(text)) socket.destroy()
    })
    socket.on('error', (error) => (text === '' ? reject(error) : resolve(text))).on('close', () => resolve(text))
  })
}

function isWhole(text: string): boolean {
  const end = text.indexOf('\r\n\r\n')
  const length = /\r\ncontent-length: (\d+)\r\n/i.exec(text.slice(0, end + 2))?.[1]
  return end > 0 && length !== undefined && Buffer.byteLength(text.slice(end + 4)) >= Number(length)
}

/** The status and the JSON of an answer. */
export function readAnswer(text: string): { status: number; body: Record<string, unknown> } {
  const status = Number(/^HTTP\/1\.1 (\d{3}) /.exec(text)?.[1])
  const json = text.slice(text.indexOf('{'), text.lastIndexOf('}') + 1)
  return { status, body: JSON.parse(json || '{}') as Record<string, unknown> }
}
