/** Two providers and the real CLI, through either host. `RUNYARD_RUNS=400` is the long form. */
import { describe } from 'vitest'
import { providers } from './providers.ts'

const runs = Number(process.env['RUNYARD_RUNS'] ?? 40)

describe.each(['node', 'workers'] as const)('two providers behind the router on %s', (host) => {
  providers({ host, runs, short: host === 'workers' })
})
