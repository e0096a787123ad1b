/** Two providers and the real CLI, through either host. The long form is 400 runs, and every kind of trouble from its beginning to its end. */
import { describe } from 'vitest'
import { LONG } from '../kit/long.ts'
import { providers } from './providers.ts'

describe('two providers behind the router on node', () => {
  providers({ host: 'node', runs: LONG ? 400 : 8, trouble: LONG ? 'whole' : 'each' })
})

describe('two providers behind the router on workers', () => {
  providers({ host: 'workers', runs: LONG ? 400 : 8, trouble: LONG ? 'whole' : 'one' })
})
