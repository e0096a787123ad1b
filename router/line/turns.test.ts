import { describe, expect, it } from 'vitest'
import { Turns } from './turns.ts'

function rig() {
  const busy = new Set<string>()
  const asked: string[][] = []
  const turns = new Turns((sessions) => {
    asked.push([...sessions])
    return Promise.resolve(new Set(sessions.filter((s) => busy.has(s))))
  })
  return { turns, busy, asked }
}

describe('a session that the database calls busy', () => {
  it('is passed by until the database calls it free, however long that takes', async () => {
    const { turns, busy, asked } = rig()
    for (const session of ['a', 'b']) turns.holdOff(session)
    busy.add('a').add('b')
    for (const now of [0, 500, 1_000]) await turns.look(now)
    expect([...turns.sessions()]).toEqual(['a', 'b'])
    busy.delete('a')
    await turns.look(1_500)
    expect([...turns.sessions()]).toEqual(['b'])
    expect(asked.at(-1)).toEqual(['a', 'b'])
  })

  it('is asked about twice a second, sooner when some turn is over, and never twice at once', async () => {
    const { turns, busy } = rig()
    expect(turns.isDue(0, true)).toBe(false)
    turns.holdOff('a')
    busy.add('a')
    expect(turns.isDue(0, false)).toBe(true)
    const looking = turns.look(0)
    expect(turns.isDue(1_000, true)).toBe(false)
    await looking
    expect([turns.isDue(99, true), turns.isDue(100, true)]).toEqual([false, true])
    expect([turns.isDue(499, false), turns.isDue(500, false)]).toEqual([false, true])
  })

  it('is asked about again when the database did not answer', async () => {
    const turns = new Turns(() => Promise.reject(new Error('away')))
    turns.holdOff('a')
    await expect(turns.look(0)).rejects.toThrow('away')
    expect([...turns.sessions()]).toEqual(['a'])
    expect(turns.isDue(500, false)).toBe(true)
  })

  it('is nobody any more when nobody waits', () => {
    const { turns } = rig()
    turns.begun('run_1', 'b')
    turns.holdOff('a')
    turns.forgetHeldOff()
    expect([...turns.sessions()]).toEqual(['b'])
  })
})
