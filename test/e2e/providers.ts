/**
 * Two providers behind one router, on either host, and the real CLI: how runs are shared out between them, and what
 * becomes of runs when one of them fails. Router, runner and CLI are processes; the providers are scripted models.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { enlist, type Enlisted, type EnlistOptions } from '../kit/enlist.ts'
import { newMachine, type Machine } from '../kit/processes.ts'
import { until } from '../kit/wait.ts'
import { breakOff, drop, error, hang, startModel, text, type Model, type Reply } from '../model/scripted.ts'

type Json = Record<string, unknown>
type Name = 'big' | 'small'

const RECOVERY_S = 3
const THRESHOLD = 3
/** Starts of the real CLI that two cores take side by side. */
const AT_ONCE = 4
/** Some dozens of starts, on a machine that has other things to do. */
const PATIENCE_MS = 120_000

export interface Wanted extends EnlistOptions {
  /** How many are shared out. With eight an even share is two off, and one off is what is let pass; test/contract/providers.ts counts by hundreds. */
  readonly runs: number
  /** `one`: only the first kind of trouble, since the gateway is the same for every host. `whole`: each of them also passes. */
  readonly trouble: 'one' | 'each' | 'whole'
}

export function providers(options: Wanted): void {
  let machine: Machine
  let models: Record<Name, Model>
  let fleet: Enlisted

  beforeAll(async () => {
    machine = await newMachine()
    models = { big: await startModel(), small: await startModel() }
    fleet = await enlist(machine, models.big, options)
    await admin('PUT', '/routing', { failure_threshold: THRESHOLD, recovery_s: RECOVERY_S, headers_timeout_s: 1 })
    await admin('POST', '/providers', { id: 'big', base_url: models.big.url, api_key: 'sk-big-0123456789', weight: 3 })
    await admin('POST', '/providers', { id: 'small', base_url: models.small.url, api_key: 'sk-small-0123456789', weight: 1 })
    await fleet.online(fleet.startRunner([`--workspace=${machine.workspace}`, '--allow-private-base-url'], { ANTHROPIC_BASE_URL: '', ANTHROPIC_API_KEY: '' }))
  })
  afterAll(async () => {
    await machine.close()
    await Promise.all(Object.values(models).map((model) => model.close()))
  })
  beforeEach(async () => {
    for (const [name, model] of Object.entries(models)) {
      model.script(() => text(`I am ${name}.`))
      await admin('POST', `/providers/${name}/reset`)
    }
  })

  async function admin(method: string, path: string, body?: Json): Promise<Json> {
    const response = await fleet.admin(`/admin/v1${path}`, { method, ...(body === undefined ? {} : { body: JSON.stringify(body) }) })
    const answer = response.status === 204 ? {} : ((await response.json()) as Json)
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${JSON.stringify(answer)}`)
    return answer
  }
  const stateOf = async (name: Name) => (await admin('GET', `/providers/${name}/health`))['state']
  const asked = (name: Name) => models[name].main().length
  const run = (body: Json = {}) => fleet.run({ prompt: 'Who are you?', ...body })

  async function runMany(n: number): Promise<Json[]> {
    const done: Json[] = []
    let left = n
    await Promise.all(
      Array.from({ length: AT_ONCE }, async () => {
        while (left-- > 0) done.push(await run())
      }),
    )
    return done
  }

  it(`shares ${options.runs} runs out by weight, three to one`, async () => {
    const before = { big: asked('big'), small: asked('small') }
    const done = await runMany(options.runs)
    expect(done.filter(({ status }) => status !== 'succeeded')).toEqual([])
    const small = done.filter(({ provider }) => provider === 'small').length
    expect(Math.abs(small - options.runs / 4)).toBeLessThanOrEqual(1)
    expect(asked('small') - before.small).toBe(small)
    expect(asked('big') - before.big).toBe(options.runs - small)
  }, Math.max(PATIENCE_MS, 5_000 * options.runs))

  it('keeps each session with its provider for as long as that is well', async () => {
    const first = await runMany(options.trouble === 'one' ? 2 : 4)
    for (const { session_id, provider } of first) {
      for (let turn = 0; turn < 2; turn++) expect(await run({ session_id })).toMatchObject({ status: 'succeeded', provider })
    }
  }, PATIENCE_MS)

  /** Its key is wrong: no time makes it right. */
  async function staysShutUntilReset(): Promise<void> {
    await sleep(1_200 * RECOVERY_S)
    models.big.script(() => text('I am big.'))
    for (let n = 0; n < 4; n++) expect(await run()).toMatchObject({ provider: 'small' })
    expect(await stateOf('big')).toBe('open')
    await admin('POST', '/providers/big/reset')
  }
  /** Past its time one run tries, finds it as bad as before, and is answered by the other one all the same. */
  async function letsOneTry(): Promise<void> {
    await sleep(1_200 * RECOVERY_S)
    const asking = asked('big')
    for (const done of await runMany(4)) expect(done).toMatchObject({ status: 'succeeded', provider: 'small' })
    expect(asked('big') - asking).toBe(1)
    models.big.script(() => text('I am big.'))
  }

  type Trouble = readonly [string, () => Reply, 'threshold' | 'at once']
  const TROUBLE: readonly Trouble[] = [
    ['is overloaded (529)', () => error(529, 'overloaded_error', 'not now'), 'threshold'],
    ['no longer takes its key (401)', () => error(401, 'authentication_error', 'bad key'), 'at once'],
    ['breaks (500)', () => error(500, 'api_error', 'broken'), 'threshold'],
    ['does not answer', () => hang(), 'threshold'],
    ['resets the connection', () => drop(), 'threshold'],
  ]
  /** How a breaker closes again depends on how it was opened, and not on what opened it: one of each kind shows it. */
  const passing = { one: 1, each: 2, whole: TROUBLE.length }[options.trouble]

  async function opensBreaker([, trouble, opens]: Trouble): Promise<void> {
    models.big.script(trouble)
    const before = asked('big')
    // One after the other, so that what is known of the provider is known to the next run.
    for (let n = 0; n < 4 * THRESHOLD && (await stateOf('big')) === 'closed'; n++) {
      expect(await run()).toMatchObject({ status: 'succeeded', provider: 'small' })
    }
    expect(await stateOf('big')).toBe('open')
    expect(asked('big') - before).toBe(opens === 'threshold' ? THRESHOLD : 1)
  }

  describe.each(TROUBLE.slice(0, passing))('when a provider %s', (...trouble) => {
    it('answers every run with the other one, opens the breaker, and tries again with one run', async () => {
      await opensBreaker(trouble)
      if (trouble[2] === 'at once') await staysShutUntilReset()
      else await letsOneTry()
      await until('the provider to be trusted again', async () => {
        await run()
        return (await stateOf('big')) === 'closed'
      })
      expect((await runMany(4)).filter(({ provider }) => provider === 'big')).toHaveLength(3)
    }, PATIENCE_MS)
  })

  it.each(options.trouble === 'one' ? [] : TROUBLE.slice(passing))('answers every run with the other one and opens the breaker when a provider %s', async (...trouble) => {
    await opensBreaker(trouble)
    expect(await run()).toMatchObject({ status: 'succeeded', provider: 'small' })
  }, PATIENCE_MS)

  it('knows all of it after a restart of the router', async () => {
    const session = await run()
    models.big.script(() => error(401, 'authentication_error', 'bad key'))
    await until('the breaker to open', async () => {
      await run()
      return (await stateOf('big')) === 'open'
    })
    await fleet.crashRouter()
    await until('the runner to be back', async () => (await fleet.states()).includes('online'))
    expect(await stateOf('big')).toBe('open')
    const asking = asked('big')
    for (let n = 0; n < 3; n++) expect(await run()).toMatchObject({ status: 'succeeded', provider: 'small' })
    expect(asked('big')).toBe(asking)
    expect(await run({ session_id: session['session_id'] })).toMatchObject({ status: 'succeeded' })
  }, PATIENCE_MS)

  it('never fails over once the answer has begun', async () => {
    await admin('POST', '/providers/small/disable')
    try {
      const before = asked('small')
      models.big.script(() => breakOff('overloaded_error', 'in the middle'))
      expect(await run()).toMatchObject({ status: 'failed', provider: 'big' })
      expect(asked('small')).toBe(before)
    } finally {
      await admin('POST', '/providers/small/enable')
    }
  }, PATIENCE_MS)
}
