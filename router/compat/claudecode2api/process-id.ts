/** The id of a run as a UUID, which is how the clients of claudecode2api know it. */
const RUN = /^run_([0-9a-f]{8})([0-9a-f]{4})([0-9a-f]{4})([0-9a-f]{4})([0-9a-f]{12})$/
const PROCESS = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i

export const processOf = (run: string): string => run.replace(RUN, '$1-$2-$3-$4-$5')

/** Undefined for what is no process id, whatever it is. */
export function runOf(process: string): string | undefined {
  return PROCESS.test(process) ? `run_${process.replaceAll('-', '').toLowerCase()}` : undefined
}
