import { expect, it } from 'vitest'
import { defaultDataDir } from '../router/node/data-dir.ts'
import { startHint } from './runner.ts'

it('the last word of an enrolment starts the machine that was enrolled, wherever its state is', () => {
  expect(startHint(defaultDataDir())).toBe('start it with `runyard runner start`')
  expect(startHint('/srv/a b')).toBe("start it with `runyard runner start --data-dir '/srv/a b'`")
  expect(startHint("/srv/o'clock")).toBe("start it with `runyard runner start --data-dir '/srv/o'\\''clock'`")
})
