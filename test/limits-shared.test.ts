/** Two routers, each a process of its own, on one database: what they let through together is what one would. */
import { cp, mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { APP_DEFAULT_SCOPES, SCOPES } from '../router/core/scopes.ts'
import type { Keys } from '../router/guard/keys.ts'
import { mint } from '../router/guard/tokens.ts'
import { loadKeys } from '../router/node/data-dir.ts'
import { loadVault } from '../router/node/master-key.ts'
import type { Rate } from '../shared/tenant-settings.ts'
import { newMachine, type Machine } from './kit/processes.ts'
import { until } from './kit/wait.ts'

const SCRIPT = fileURLToPath(new URL('support/limits-router.mjs', import.meta.url))
const CLIENTS = 8
/** Between the count in the database and an answer that is seen here lies the way of that answer. */
const SLACK_MS = 250

let machine: Machine
let keys: Keys
let urls: string[]
let tenants = 0

beforeAll(async () => {
  machine = await newMachine()
  const dirs = [join(machine.home, 'a'), join(machine.home, 'b')] as const
  for (const dir of dirs) await mkdir(dir, { mode: 0o700 })
  keys = await loadKeys(dirs[0])
  await loadVault(dirs[0])
  for (const file of ['signing-key.json', 'master-key.json']) await cp(join(dirs[0], file), join(dirs[1], file))
  urls = []
  for (const dir of dirs) {
    const { url } = await machine.start([dir, join(machine.home, 'shared.db')], {}, SCRIPT).event('ready')
    urls.push(url!)
  }
})
afterAll(() => machine.close())

const token = async (kind: 'app' | 'admin', tenant: string) => {
  const scopes = kind === 'admin' ? SCOPES : APP_DEFAULT_SCOPES
  return (await mint(keys, { kind, tenant, subject: 'test', jti: crypto.randomUUID(), scopes, ttlS: 600 }, Date.now())).token
}

const ask = async (url: string, bearer: string) => {
  const response = await fetch(`${url}/v1/runners`, { headers: { authorization: `Bearer ${bearer}` } })
  await response.arrayBuffer()
  return response
}

/** A token of a tenant with this limit, which both routers know of. */
async function limited(rate: Rate): Promise<string> {
  const tenant = `t${++tenants}`
  const init = {
    method: 'PUT',
    headers: { authorization: `Bearer ${await token('admin', 'default')}`, 'content-type': 'application/json' },
    body: JSON.stringify({ rates: { read: rate } }),
  }
  const made = await fetch(`${urls[0]}/admin/v1/tenants`, { ...init, method: 'POST', body: JSON.stringify({ id: tenant }) })
  const set = await fetch(`${urls[0]}/admin/v1/limits?tenant=${tenant}`, init)
  if (!made.ok || !set.ok) throw new Error(`${made.status} ${set.status} ${await set.text()}`)
  return token('app', tenant)
}

describe('two routers on one database', () => {
  it('let the burst of a small limit through once, and not each', async () => {
    const bearer = await limited({ rate: 0.001, burst: 30 })
    const all = await Promise.all(Array.from({ length: 80 }, (_, i) => ask(urls[i % 2]!, bearer)))
    expect(all.filter(({ status }) => status === 200).length).toBe(30)
    expect(new Set(all.map(({ status }) => status))).toEqual(new Set([200, 429]))
  })

  it('never let more than burst + rate × time through together, in any window', { timeout: 60_000 }, async () => {
    const rate = { rate: 200, burst: 100 }
    const bearer = await limited(rate)
    const admitted: number[] = []
    const byRouter = [0, 0]
    const over = performance.now() + 3_000
    const client = async (router: number) => {
      while (performance.now() < over) {
        const { status } = await ask(urls[router]!, bearer)
        if (status !== 200) continue
        admitted.push(performance.now())
        byRouter[router]!++
      }
    }
    await Promise.all(Array.from({ length: 2 * CLIENTS }, (_, i) => client(i % 2)))
    const excess = admitted.flatMap((from, i) =>
      admitted.slice(i).map((to, n) => n + 1 - (rate.burst + (rate.rate * (to - from + SLACK_MS)) / 1_000)),
    )
    expect(excess.reduce((a, b) => Math.max(a, b))).toBeLessThanOrEqual(0)
    // Neither of them keeps the other one out, and what has been used comes back.
    expect(Math.min(...byRouter)).toBeGreaterThan(0)
    expect(admitted.length).toBeGreaterThan(rate.burst)
  })

  it('know what the other one was told within two seconds', async () => {
    const bearer = await limited({ rate: 0.001, burst: 1 })
    expect((await ask(urls[0]!, bearer)).status).toBe(200)
    await until('the other to know', async () => (await ask(urls[1]!, bearer)).status === 429, 3_000)
  })
})
