/** Webhooks of a router that is killed, as its process and by SIGKILL, at whatever it is just doing. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Json } from '../kit/fleet.ts'
import { newMachine, type Command, type Machine } from '../kit/processes.ts'
import { openReceiver, verified, type Receiver } from '../kit/receiver.ts'
import { until } from '../kit/wait.ts'

const KILLS = 4
const SESSIONS = 6

describe('webhooks of a router that is killed', () => {
  let machine: Machine
  let receiver: Receiver
  let router: Command
  let ready: Record<string, string>
  beforeAll(async () => {
    machine = await newMachine()
    receiver = await openReceiver()
    await start()
  })
  afterAll(async () => {
    await machine.close()
    await receiver.close()
  })

  async function start(): Promise<void> {
    router = machine.start(['router', '--port=0', `--data-dir=${machine.dataDir}`, '--json'])
    ready = await router.event('ready')
  }
  const ask = async (method: string, path: string, body?: object): Promise<Json> => {
    const headers = { authorization: `Bearer ${ready['admin_token']}`, 'content-type': 'application/json' }
    const response = await fetch(ready['url'] + path, { method, headers, ...(body ? { body: JSON.stringify(body) } : {}) })
    expect(response.ok, path).toBe(true)
    return (await response.json()) as Json
  }

  it('lose nothing of what had happened, and make one message of each thing', { timeout: 120_000 }, async () => {
    await ask('PUT', '/admin/v1/webhook-settings', { allow_private: true, timeout_s: 1 })
    const { secret } = await ask('POST', '/admin/v1/webhooks', { url: receiver.url, events: ['session.created'] })
    // Every second answer is late, so that some are on their way when the router dies.
    receiver.replies = (_path, nth) => (nth % 2 === 0 ? 204 : 'silence')
    const made: string[] = []
    for (let kill = 0; kill < KILLS; kill++) {
      for (let n = 0; n < SESSIONS; n++) made.push(String((await ask('POST', '/v1/sessions', { title: `${kill}.${n}` }))['id']))
      await new Promise((resolve) => setTimeout(resolve, kill * 15))
      await router.stop('SIGKILL')
      await start()
    }
    receiver.replies = () => 204
    const delivered = async () => ((await ask('GET', '/admin/v1/webhook-deliveries?state=delivered&limit=100'))['data'] as Json[]).length
    await until('all to be delivered', async () => (await delivered()) === made.length, 60_000)
    const told = new Map(receiver.heard.map((one) => [one.id, String((verified(one, String(secret))['data'] as Json)['id'])]))
    expect([...told.values()].toSorted()).toEqual(made.toSorted())
    // Whatever came twice is the same message, byte for byte.
    expect(new Set(receiver.heard.map(({ id, text }) => `${id} ${text}`)).size).toBe(made.length)
  })
})
