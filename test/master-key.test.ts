/** A new master key under a router that runs, as its operator gives it one. */
import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { createClient } from '@libsql/client'
import { decodeProtectedHeader } from 'jose'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { KeyRing, openVault } from '../router/guard/vault.ts'
import { newMachine, type Command, type Machine } from './kit/processes.ts'

const KEY = 'sk-test-canary-0123456789'
let machine: Machine
let router: Command
beforeAll(async () => {
  machine = await newMachine()
  router = machine.start(['router', '--json', '--port=0', `--data-dir=${machine.dataDir}`])
  await router.event('ready')
})
afterAll(() => machine.close())

async function runyard(...args: string[]): Promise<Record<string, unknown>> {
  const { code, stdout, stderr } = await machine.runyard([...args, '--json', `--data-dir=${machine.dataDir}`], { THE_KEY: KEY })
  expect([code, stderr]).toEqual([0, ''])
  return JSON.parse(stdout) as Record<string, unknown>
}
const ring = async () => KeyRing.parse(JSON.parse(await readFile(join(machine.dataDir, 'master-key.json'), 'utf8')))
async function sealedRow(): Promise<{ sealed_key: string; version: number }> {
  const db = createClient({ url: `file:${join(machine.dataDir, 'runyard.db')}` })
  try {
    const { rows } = await db.execute("SELECT sealed_key, version FROM providers WHERE id = 'main'")
    return rows[0] as unknown as { sealed_key: string; version: number }
  } finally {
    db.close()
  }
}

it('is taken up without a restart: what was sealed is sealed anew, and the old one can be forgotten', async () => {
  await runyard('provider', 'add', 'main', '--base-url', 'https://api.example.com', '--key-env', 'THE_KEY')
  await runyard('key', 'rotate')
  const before = await ring()
  const old = decodeProtectedHeader((await sealedRow()).sealed_key).kid
  expect(old).toBe(before.keys[0]!.kid)

  const { kid, sealed } = await runyard('key', 'rotate-master')
  expect([sealed, kid === old]).toEqual([true, false])
  expect(decodeProtectedHeader((await sealedRow()).sealed_key).kid).toBe(kid)
  expect((await ring()).keys.map((key) => key.kid)).toEqual([kid, old])

  expect(await runyard('key', 'forget-master')).toEqual({ kid, forgotten: 1 })
  const after = await ring()
  expect([after.keys.map((key) => key.kid), after.pepper === before.pepper]).toEqual([[kid], true])
  expect((await stat(join(machine.dataDir, 'master-key.json'))).mode & 0o777).toBe(0o600)
  const { sealed_key, version } = await sealedRow()
  expect(await (await openVault(after)).open(`provider/default/main/${version}`, sealed_key)).toBe(KEY)

  await router.stop()
  router = machine.start(['router', '--json', '--port=0', `--data-dir=${machine.dataDir}`])
  await router.event('ready')
  expect(router.stderr.join('\n')).not.toContain('cannot be opened')
  expect((await runyard('key', 'list'))['data']).toHaveLength(2)
})

it('is not forgotten while no router says that it may be', async () => {
  const empty = await newMachine()
  try {
    const { code, stderr } = await empty.runyard(['key', 'forget-master', `--data-dir=${empty.dataDir}`])
    expect([code, stderr]).toEqual([78, expect.stringContaining('master-key.json')])
    await router.stop()
    const gone = await machine.runyard(['key', 'forget-master', `--data-dir=${machine.dataDir}`])
    expect([gone.code, gone.stderr]).toEqual([69, expect.stringContaining('only a router that runs')])
  } finally {
    await empty.close()
  }
})
