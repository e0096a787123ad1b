import { beforeEach, describe, expect, it } from 'vitest'
import { PaperResident } from '../../test/kit/residents.ts'
import { until } from '../../test/kit/wait.ts'
import type { Seat } from '../gateway/gateway.ts'
import type { Purse } from '../gateway/purse.ts'
import type { Resident } from './resident.ts'
import { Turn, type TurnParts } from './turn.ts'

const SINK = { line: () => 0, batch: () => undefined, mark: () => undefined }
const NOTHING = { code: null, signal: null, result: undefined }
const METERED = { requests: 1, tokens: { input_tokens: 1, output_tokens: 1, cache_creation_input_tokens: 0, cache_read_input_tokens: 0 }, cost_usd: 1, known_usd: 1, provider: 'a', failovers: 0 }

describe('the turn of a run', () => {
  let resident: PaperResident
  let back: Resident[]
  let replacements: PaperResident[]
  let logged: string[]
  beforeEach(() => {
    resident = new PaperResident('one')
    back = []
    replacements = []
    logged = []
  })
  const turn = (more: Partial<TurnParts> = {}) =>
    new Turn({
      resident,
      warm: true,
      prompt: 'hello',
      stay: true,
      replace: async () => {
        const another = new PaperResident('one')
        replacements.push(another)
        return another
      },
      giveBack: (one) => void back.push(one),
      log: (message) => logged.push(message),
      ...more,
    })

  it('ends, and gives its process back', async () => {
    const one = turn()
    const end = one.turn(SINK)
    resident.cli.finish()
    expect(await end).toEqual(NOTHING)
    expect([back, resident.cli.cancels]).toEqual([[resident], []])
  })

  it('is paid with its own purse, which is closed before the process is given back', async () => {
    const told: string[] = []
    const seat: Seat = {
      env: { ANTHROPIC_BASE_URL: 'http://127.0.0.1:1', ANTHROPIC_API_KEY: 'token' },
      begin: ({ run }) => void told.push(`begin ${run}`),
      end: async () => (told.push(`end, ${back.length} given back`), METERED),
      leave: async () => undefined,
    }
    const purse = { run: 'run_1' } as Purse
    const one = turn({ resident: Object.assign(resident, { seat }), purse })
    const end = one.turn(SINK)
    resident.cli.finish()
    expect(await end).toEqual({ ...NOTHING, metered: METERED })
    expect([told, back.length]).toEqual([['begin run_1', 'end, 0 given back'], 1])
  })

  it('goes to another process when its own died before it had the prompt', async () => {
    resident.cli.die()
    const one = turn()
    const end = one.turn(SINK)
    const another = await until('another one to have the turn', () => replacements.find(({ cli }) => cli.turns === 1))
    another.cli.finish()
    await end
    expect([resident.cli.turns, replacements, back]).toEqual([0, [another], [resident, another]])
  })

  it('goes to another process, once, when its own took no prompt', async () => {
    const refuse = (one: PaperResident) => (one.cli.turn = () => Promise.resolve({ code: null, signal: 'SIGKILL', result: undefined }))
    refuse(resident)
    const one = turn({ replace: async () => (replacements.push(new PaperResident('one')), refuse(replacements[0]!), replacements[0]!) })
    expect(await one.turn(SINK)).toMatchObject({ signal: 'SIGKILL' })
    expect([replacements.length, back]).toEqual([1, [resident, replacements[0]]])
  })

  it('does not begin when no other process can be had, and says why', async () => {
    resident.cli.die()
    const one = turn({ replace: () => Promise.reject(new Error('no')) })
    expect(await one.turn(SINK)).toEqual(NOTHING)
    expect(logged).toEqual(['a process that had died could not be replaced'])
  })

  it('does not begin when it is withdrawn while another process is started, which is ended', async () => {
    resident.cli.die()
    const another = new PaperResident('one')
    let arrive: () => void = () => undefined
    const one = turn({ replace: () => new Promise((resolve) => (arrive = () => resolve(another))) })
    const end = one.turn(SINK)
    await until('another one to be asked for', () => back.length === 1)
    await one.cancel('interrupt')
    arrive()
    expect(await end).toEqual(NOTHING)
    expect([another.cli.turns, another.cli.cancels, back]).toEqual([0, ['kill'], [resident, another]])
  })

  it('withdrawn before it began leaves a warm process alone, and ends one that was started for it', async () => {
    await turn().cancel('kill')
    expect([resident.cli.cancels, back]).toEqual([[], [resident]])
    const cold = turn({ warm: false })
    await cold.cancel('kill')
    expect(resident.cli.cancels).toEqual(['kill'])
    expect(await cold.turn(SINK)).toEqual(NOTHING)
    expect(resident.cli.turns).toBe(0)
  })

  it('does not reach its process any more when it is over', async () => {
    const one = turn()
    const end = one.turn(SINK)
    resident.cli.finish()
    await end
    await one.cancel('kill')
    expect([resident.cli.cancels, back]).toEqual([[], [resident]])
  })

  it('cancels what is under way', async () => {
    const one = turn()
    const end = one.turn(SINK)
    await one.cancel('interrupt')
    await end
    expect([resident.cli.cancels, back]).toEqual([['interrupt'], [resident]])
  })
})
