/** The edge as a user has it: the built command in a process of its own. */
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { EDGE, newMachine, processesWith, type Command, type Machine } from '../test/kit/processes.ts'
import { startSqld } from '../test/kit/sqld.ts'
import { until } from '../test/kit/wait.ts'

let machine: Machine
beforeEach(async () => void (machine = await newMachine()))
afterEach(() => machine.close())

const start = (...args: string[]): Command =>
  machine.start(['--json', '--port', '0', '--data-dir', machine.dataDir, ...args], {}, EDGE)
const workerds = () => processesWith(`${machine.dataDir}/edge/workerd/config.capnp`)

async function asked(url: string, token: string, path: string, init: RequestInit = {}): Promise<number> {
  const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' }
  const response = await fetch(`${url}${path}`, { ...init, headers })
  await response.text()
  return response.status
}

describe('npm run edge', () => {
  it('is ready with tokens that are good, and keeps them and what it knows over a SIGKILL', async () => {
    const first = start()
    const ready = await first.event('ready')
    expect(ready).toMatchObject({ event: 'ready', data_dir: machine.dataDir })
    expect(Object.keys(ready).toSorted()).toEqual(['admin_token', 'data_dir', 'event', 'token', 'url'])
    const { url = '', token = '', admin_token: adminToken = '' } = ready
    const post = { method: 'POST', body: '{}' }
    expect(await asked(url, token, '/v1/runs')).toBe(200)
    expect(await asked(url, token, '/admin/v1/enrolment-tokens', post)).toBe(403)
    expect(await asked(url, adminToken, '/admin/v1/enrolment-tokens', post)).toBe(201)
    for (const file of ['client.json', 'signing-key.json', 'edge/workerd/config.capnp']) {
      expect((await stat(join(machine.dataDir, file))).mode & 0o777, file).toBe(0o600)
    }
    await first.stop('SIGKILL')
    await until('the end of workerd', async () => (await workerds()).length === 0)

    const second = start()
    const again = await second.event('ready')
    expect([again['token'], again['admin_token']]).toEqual([token, adminToken])
    expect((await second.stop()).code).toBe(0)
    expect(await workerds()).toEqual([])
  })

  it('exits with 69 when its data directory or its port is taken, and says which', async () => {
    const { url } = await start().event('ready')
    const same = await start().ended
    expect(same.code).toBe(69)
    expect(same.stdout).toMatch(/in use by process \d+/)
    const port = await start('--data-dir', join(machine.home, 'other'), '--port', new URL(url!).port).ended
    expect(port.code).toBe(69)
    expect(port.stdout).toContain(`port ${new URL(url!).port} on 127.0.0.1 is in use`)
  })

  it('ends with an error that shows the log when workerd dies by itself', async () => {
    const edge = start()
    await edge.event('ready')
    const serving = (await workerds()).filter((line) => /^\d+ \S*workerd /.test(line)).map((line) => Number.parseInt(line, 10))
    expect(serving).toHaveLength(1)
    process.kill(serving[0]!, 'SIGKILL')
    const { code, stdout } = await edge.ended
    expect(code).toBe(1)
    expect(stdout).toContain('workerd ended with 137 by itself')
  })

  it('does not say that it is ready when the Worker cannot reach its database', async () => {
    const { code, stdout } = await start('--libsql-url', 'http://127.0.0.1:9').ended
    expect(code).toBe(69)
    expect(stdout).toContain('the Worker answers with 503')
    expect(stdout).not.toContain('"ready"')
  })

  it('keeps what is shared in a libSQL server when it is given one, and has no D1 then', async () => {
    const sqld = await startSqld(join(machine.home, 'sqld'))
    try {
      const edge = start('--libsql-url', sqld.url)
      const { url = '', admin_token: adminToken = '' } = await edge.event('ready')
      expect(await asked(url, adminToken, '/admin/v1/enrolment-tokens', { method: 'POST', body: '{}' })).toBe(201)
      const query = { statements: ['SELECT count(*) AS n FROM enrolments'] }
      const answer = await fetch(sqld.url, { method: 'POST', body: JSON.stringify(query) })
      expect(await answer.json()).toMatchObject([{ results: { rows: [[1]] } }])
      expect(await readdir(join(machine.dataDir, 'edge/d1'))).toEqual([])
    } finally {
      await sqld.stop()
    }
  })

  it('refuses flags that it does not know, with 2', async () => {
    expect((await start('--workspace', '/tmp').ended).code).toBe(2)
    expect((await start('--libsql-url', 'file:db').ended).code).toBe(2)
  })
})
