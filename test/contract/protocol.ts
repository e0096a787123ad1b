/** The runner's WebSocket as the protocol has it, spoken by hand. */
import { randomBytes } from 'node:crypto'
import { connect } from 'node:net'
import { beforeEach, describe, expect, it } from 'vitest'
import { CLOSE } from '../../shared/frames.ts'
import { MAX_MESSAGE } from '../../shared/limits.ts'
import type { Fleet } from '../kit/fleet.ts'
import type { Host } from '../kit/host.ts'
import { rawHttp } from '../kit/raw-http.ts'
import { RawRunner, type RawLink } from '../kit/raw-runner.ts'
import { until } from '../kit/wait.ts'
import { tenantEach } from './tenants.ts'

const RUN = `run_${'a'.repeat(32)}`
const WHO = { boot: crypto.randomUUID(), conn: 1, agent: '0', cli: null, os: 'x' }
const HELLO = JSON.stringify({ t: 'hello', proto: [1, 1], ...WHO, caps: [], slots: 1, labels: {}, provider: null, runs: [] })

/** An event frame, whether or not it holds what its header says. */
const frame = (n: number, body: string) => Buffer.from(`${JSON.stringify({ t: 'ev', run: RUN, fence: 1, first: 1, n })}\n${body}`)

/** A text frame of a client with its mask (RFC 6455 §5.2). */
function maskedText(text: string): Buffer {
  const body = Buffer.from(text)
  if (body.length < 126 || body.length > 65_535) throw new Error('only the 16-bit length is written here')
  const head = Buffer.from([0x81, 0x80 | 126, body.length >> 8, body.length & 0xff])
  const mask = randomBytes(4)
  return Buffer.concat([head, mask, body.map((byte, i) => byte ^ mask[i % 4]!)])
}

export function protocol(host: Host): void {
  describe('the link of a runner', () => {
    const current = tenantEach(host)
    let fleet: Fleet
    let runner: RawRunner
    beforeEach(async () => {
      fleet = current()
      runner = await RawRunner.enlist(fleet)
    })

    const handshake = (token: string, subprotocol: string) => [
      'GET /v1/runners/connect HTTP/1.1',
      'Host: localhost',
      'Connection: Upgrade',
      'Upgrade: websocket',
      'Sec-WebSocket-Version: 13',
      `Sec-WebSocket-Key: ${randomBytes(16).toString('base64')}`,
      `Sec-WebSocket-Protocol: ${subprotocol}`,
      `Authorization: Bearer ${token}`,
    ]

    it('greets with what both keep to, and counts as online from then on', async () => {
      const link = await runner.dial()
      expect((await fleet.runners())[0]).toMatchObject({ status: 'offline' })
      link.hello({ slots: 7, cli: '2.1.197', labels: { os: 'plan9' } })
      expect(await link.next('welcome')).toMatchObject({ proto: 1, max_msg: MAX_MESSAGE, resume: [] })
      await fleet.allRunners('online')
      expect((await fleet.runners())[0]).toMatchObject({ slots: 7, busy: 0, cli_version: '2.1.197' })
      await link.cut()
      await fleet.allRunners('offline')
    })

    it('does not lose a hello that arrives with the handshake', async () => {
      const { hostname, port } = new URL(fleet.url)
      const request = [...handshake(await runner.token(), 'runyard.v1'), '', ''].join('\r\n')
      const both = Buffer.concat([Buffer.from(request), maskedText(HELLO)])
      const socket = connect(Number(port), hostname, () => socket.write(both))
      let answer = ''
      socket.on('data', (chunk) => (answer += chunk.toString())).on('error', () => undefined)
      await until('the welcome', () => answer.includes('"t":"welcome"'))
      expect(answer).toMatch(/^HTTP\/1\.1 101 /)
      expect(answer).toMatch(/sec-websocket-protocol: runyard\.v1/i)
      socket.destroy()
    })

    it('tells a runner that is refused why, with the versions that it could speak', async () => {
      const upgrade = (token: string, subprotocol: string) => rawHttp(fleet.url, handshake(token, subprotocol))
      const version = await upgrade(await runner.token(), 'runyard.v9')
      expect(version).toMatch(/^HTTP\/1\.1 426 /)
      expect(/\nupgrade: runyard\.v1/i.test(version)).toBe(host.can.sendsUpgradeHeader)
      expect(version).toContain('"supported":["runyard.v1"]')
      const stranger = await upgrade('nonsense', 'runyard.v1')
      expect(stranger).toMatch(/^HTTP\/1\.1 401 /)
      expect(stranger).toContain('"code":"unauthenticated"')
    })

    it('ends with 4426 when they have no version of the protocol in common', async () => {
      const link = await runner.dial()
      link.hello({ proto: [2, 9] })
      expect(await link.closed).toBe(CLOSE.version)
    })

    it('ends with 4409 when the same runner dials again; the newer one goes on', async () => {
      const old = await runner.connect()
      const { id } = await startOn(old)
      const young = await runner.dial()
      expect(await old.closed).toBe(CLOSE.superseded)
      young.hello({ runs: [{ run: id, fence: 1, state: 'running', last: 1 }] })
      const welcome = await young.next('welcome')
      expect(welcome.resume).toEqual([{ run: id, fence: 1, ack: 1, part: 0, do: 'continue' }])
      young.lines({ run: id, fence: 1 }, 2, ['{"a":1}'])
      young.exit({ run: id, fence: 1 }, 3)
      await fleet.until(id, 'succeeded')
    })

    const startOn = async (link: RawLink) => {
      const [run] = await Promise.all([fleet.start({ prompt: 'x' }), link.begin().then((offer) => link.acked(offer, 1))])
      return run
    }

    it('answers each bare ping, and ignores a message of a kind that it does not know', async () => {
      const link = await runner.connect()
      link.raw('ping')
      link.raw('{"t":"news","from":"the future"}')
      link.raw('ping')
      await until('both pongs', () => link.pongs === 2)
      const { id } = await startOn(link)
      link.exit({ run: id, fence: 1 }, 2)
      expect(await fleet.until(id, 'succeeded')).toMatchObject({ id })
    })

    it.each<[string, string | Uint8Array]>([
      ['text that is no JSON', 'hello'],
      ['JSON without a kind', '[]'],
      ['a message with a bad body', '{"t":"accept","re":1}'],
      ['an id that leads elsewhere', '{"t":"starting","run":"../../etc/passwd","fence":1}'],
      ['a second hello', HELLO],
      ['binary without a header', Buffer.from([0, 1, 2, 3])],
      ['a frame that holds fewer lines than it says', frame(2, '{}\n')],
      ['a carriage return, which could forge an ending', frame(1, '{"a":1}\rid: 9\n')],
      ['a frame that is too large', frame(1, `${'x'.repeat(MAX_MESSAGE)}\n`)],
    ])('ends with 4400 after %s', async (_what, data) => {
      const link = await runner.connect()
      link.raw(data)
      expect(await link.closed).toBe(CLOSE.malformed)
    })

    it.each([
      ['an accept', `{"t":"accept","re":"o1","run":"${RUN}","fence":1,"cwd":"/"}`],
      ['a heartbeat', '{"t":"hb","id":"h1","runs":[],"free":1,"load":0,"disk_free":1}'],
    ])('ends with 4400 after %s before the hello', async (_what, data) => {
      const link = await runner.dial()
      link.raw(data)
      expect(await link.closed).toBe(CLOSE.malformed)
    })

    it('ends when a message is larger than any message may be', async () => {
      const link = await runner.connect()
      // Of a type that nobody knows, which would be ignored if it were shorter.
      link.raw(JSON.stringify({ t: 'later', pad: 'x'.repeat(2 * 1024 * 1024) }))
      // The socket below may refuse it (RFC 6455 §7.4.1) before the protocol does.
      expect([1009, CLOSE.tooLarge]).toContain(await link.closed)
    })

    it('ends with 4400 after events that leave a hole, and takes those that it has already for what they are', async () => {
      const link = await runner.connect()
      const { id } = await startOn(link)
      const ref = { run: id, fence: 1 }
      link.lines(ref, 2, ['{"n":2}', '{"n":3}'])
      link.lines(ref, 2, ['{"n":"again"}'])
      await link.acked(ref, 3)
      link.lines(ref, 5, ['{"n":5}'])
      expect(await link.closed).toBe(CLOSE.malformed)
      const back = await runner.dial()
      back.hello({ runs: [{ ...ref, state: 'running', last: 5 }] })
      expect((await back.next('welcome')).resume).toMatchObject([{ ack: 3, do: 'continue' }])
      back.lines(ref, 4, ['{"n":4}', '{"n":5}'])
      back.exit(ref, 6)
      await fleet.until(id, 'succeeded')
      const text = await (await fleet.call(`/v1/runs/${id}/events`)).text()
      expect([...text.matchAll(/data: \{"n":(.*)\}/g)].map(([, n]) => n)).toEqual(['2', '3', '4', '5'])
    })

    it('does not show what comes under a fence that is not the newest, or of a run of somebody else', async () => {
      const link = await runner.connect()
      const { id } = await startOn(link)
      link.lines({ run: id, fence: 2 }, 2, ['{"forged":true}'])
      expect(await link.next('revoke')).toEqual({ t: 'revoke', run: id, fence: 2 })
      const stranger = await RawRunner.enlist(await fleet.as(`${fleet.tenant}-other`))
      const theirs = await stranger.connect()
      theirs.lines({ run: id, fence: 1 }, 2, ['{"forged":true}'])
      expect(await theirs.next('revoke')).toEqual({ t: 'revoke', run: id, fence: 1 })
      link.exit({ run: id, fence: 1 }, 2)
      await fleet.until(id, 'succeeded')
      expect(await (await fleet.call(`/v1/runs/${id}/events`)).text()).not.toContain('forged')
      await theirs.cut()
    })

    it('renews its token without being cut, with an assertion of its own and once', async () => {
      const link = await runner.connect()
      const assertion = await runner.assertion()
      link.send({ t: 'refresh', assertion })
      const { token, expires_in_s } = await link.next('token')
      expect(expires_in_s).toBe(900)
      const young = await runner.dial(token)
      young.hello()
      await young.next('welcome')
      young.send({ t: 'refresh', assertion })
      expect(await young.closed).toBe(CLOSE.auth)
      const other = await RawRunner.enlist(fleet, { name: 'other' })
      for (const bad of ['garbage', await other.assertion(), await runner.assertion('https://elsewhere.test/v1/runners/token')]) {
        const third = await runner.connect()
        third.send({ t: 'refresh', assertion: bad })
        expect(await third.closed).toBe(CLOSE.auth)
      }
    })
  })
}
