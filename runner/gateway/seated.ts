/** A CLI process with its seat at the gateway: its token is good for the time of its turn, and the turn ends with the count. */
import type { CliProcess } from '../held-run.ts'
import type { Seat } from './gateway.ts'

export function seated(process: CliProcess, seat: Seat): CliProcess {
  return {
    get cliVersion() {
      return process.cliVersion
    },
    async turn(sink) {
      seat.begin()
      const end = await process.turn(sink)
      return { ...end, metered: await seat.end() }
    },
    cancel: (mode) => process.cancel(mode),
    pause: () => process.pause(),
    resume: () => process.resume(),
  }
}
