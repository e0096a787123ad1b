/** The real CLI through a router on Node. */
import { describe } from 'vitest'
import { realRuns } from './real-runs.ts'

describe('a run by the real CLI', () => {
  realRuns()
})
