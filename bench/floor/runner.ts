/** The runner of the two-hop floor, a process: the port of its router, and the CLI. */
import { answer } from '../children.ts'
import { connectRelay } from './relay-runner.ts'
import { spawned } from './source.ts'

await connectRelay(Number(process.argv[2]), spawned(process.argv[3]!))

answer({})
