/** The bad network must be bad in the way it says, and otherwise carry every byte. */
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { until } from '../kit/wait.ts'
import { FaultProxy } from './fault-proxy.ts'

const PAYLOAD = Buffer.from(Array.from({ length: 200_000 }, (_, i) => i % 251))

describe('the fault proxy', () => {
  let echo: Server
  let proxy: FaultProxy
  let client: Socket
  let received: Buffer[]
  let ending: string | undefined

  const dial = () => {
    received = []
    ending = undefined
    client = connect(proxy.port, '127.0.0.1')
    client.on('data', (chunk) => received.push(chunk))
    client.on('error', (error: NodeJS.ErrnoException) => (ending = error.code))
    client.on('end', () => (ending = 'end'))
  }
  const bytes = () => Buffer.concat(received)

  beforeEach(async () => {
    echo = createServer((socket) => socket.on('error', () => undefined).pipe(socket))
    await new Promise<void>((resolve) => echo.listen(0, '127.0.0.1', resolve))
    proxy = await FaultProxy.start(() => (echo.address() as AddressInfo).port)
    dial()
  })
  afterEach(async () => {
    client.destroy()
    await proxy.close()
    echo.close()
  })

  it.each([
    ['nothing wrong', {}],
    ['latency', { latencyMs: 20 }],
    ['little bandwidth', { bytesPerS: 4_000_000 }],
    ['slivers', { sliceBytes: 2_000 }],
  ])('carries every byte and the end with %s', async (_what, shape) => {
    proxy.shape(shape)
    client.end(PAYLOAD)
    await until('the end', () => ending === 'end')
    expect(bytes().equals(PAYLOAD)).toBe(true)
    await until('both sides to be closed', () => proxy.connections === 0)
  })

  it('holds back data and ends while it is silent, and lets them through afterwards', async () => {
    client.write('before')
    await until('an echo', () => bytes().length === 6)
    proxy.blackhole()
    client.end('after')
    const late = connect(proxy.port, '127.0.0.1')
    const heard = new Promise((resolve) => late.once('data', resolve))
    late.write('late')
    await new Promise((resolve) => setTimeout(resolve, 50))
    expect(bytes().toString()).toBe('before')
    proxy.heal()
    await until('the end', () => ending === 'end')
    expect(bytes().toString()).toBe('beforeafter')
    expect(String(await heard)).toBe('late')
    late.destroy()
  })

  it('resets both sides when it cuts', async () => {
    client.write('x')
    await until('an echo', () => bytes().length === 1)
    proxy.cut()
    expect(await until('an ending', () => ending)).toBe('ECONNRESET')
    await until('both sides to be closed', () => proxy.connections === 0)
  })
})
