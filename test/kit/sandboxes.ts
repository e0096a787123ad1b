/** Sandboxes that a machine may not have. */
import { detect } from '../../runner/sandbox.ts'

/** What is said in a test's name where the tool does not work; empty where it does. */
export async function missing(mode: 'unshare' | 'bwrap'): Promise<string> {
  const found = await detect(mode, { env: { PATH: process.env['PATH'] }, claude: process.execPath }).catch((error: unknown) => error)
  if (!(found instanceof Error)) return ''
  process.stderr.write(`${found.message}: its tests are left out\n`)
  return ` (left out: ${found.message})`
}
