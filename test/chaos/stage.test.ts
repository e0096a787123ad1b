import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { describe, expect, it } from 'vitest'
import { until } from '../kit/wait.ts'
import { lives, wantsMachine } from './stage.ts'

describe('a process that chaos finds left', () => {
  it('waits for the machine while it would run, and for somebody while it is stopped or asleep', async () => {
    const busy = spawn('/bin/sh', ['-c', 'while :; do :; done'], { stdio: 'ignore' })
    const asleep = spawn('sleep', ['600'], { stdio: 'ignore' })
    try {
      await Promise.all([once(busy, 'spawn'), once(asleep, 'spawn')])
      await until('the one to run', () => wantsMachine(busy.pid!))
      await until('sleep to be asleep', async () => !(await wantsMachine(asleep.pid!)))
      busy.kill('SIGSTOP')
      await until('the other to be stopped', async () => !(await wantsMachine(busy.pid!)))
      expect(await Promise.all([lives(busy.pid!), lives(asleep.pid!)])).toEqual([true, true])
    } finally {
      for (const one of [busy, asleep]) one.kill('SIGKILL')
    }
    await once(busy, 'exit')
    expect(await Promise.all([wantsMachine(busy.pid!), lives(busy.pid!)])).toEqual([false, false])
  })
})
