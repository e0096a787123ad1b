/** `runyard batch <file>`: many runs in one request, and how each of them ended. */
import { readFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { Option, type Command } from 'commander'
import { z } from 'zod'
import { stdin } from './admin/secret.ts'
import { openClient, type Client } from './client.ts'
import { CliError, EXIT } from './exit.ts'
import * as o from './options.ts'
import { dim, out, say } from './output.ts'
import { table, usd } from './table.ts'

const LOOK_MS = 1_000

const Item = z.looseObject({
  index: z.number(),
  run_id: z.string().nullable(),
  status: z.string(),
  cost_usd: z.number().nullable(),
  error: z.object({ code: z.string(), message: z.string() }).optional(),
})
const Batch = z.looseObject({ id: z.string(), status: z.string(), size: z.number(), counts: z.record(z.string(), z.number()), items: z.array(Item) })
type Batch = z.infer<typeof Batch>

type Flags = { readonly url?: string; readonly dataDir: string; readonly json: boolean; readonly key?: string; readonly detach: boolean }

/** `done` hears the exit code: 0 when every item succeeded, or was submitted where nobody waits. */
export function batchCommand(program: Command, done: (code: number) => void): void {
  program
    .command('batch')
    .description('start up to a hundred runs, and wait for them')
    .argument('<file>', 'JSON: a list of runs, or a whole request with items and defaults; or one run a line; - reads stdin')
    .addOption(new Option('--key <key>', 'Idempotency-Key: the same file with the same key goes on where it was cut off'))
    .addOption(new Option('--detach', 'do not wait').default(false))
    .addOption(o.url())
    .addOption(o.dataDir())
    .addOption(o.json())
    .action(async (file: string, flags: Flags) => {
      const body = read(file === '-' ? await stdin() : await readFile(file, 'utf8').catch(unreadable))
      const client = await openClient({ dataDir: flags.dataDir, url: flags.url })
      const headers: Record<string, string> = flags.key === undefined ? {} : { 'idempotency-key': flags.key }
      const first = Batch.parse(await (await client.fetch('/v1/batches', { method: 'POST', headers, body: JSON.stringify(body) })).json())
      if (!flags.json) say(dim(`batch ${first.id}: ${first.size} runs`))
      const batch = flags.detach ? first : await ended(client, first)
      if (flags.json) out(JSON.stringify(batch))
      else show(batch)
      done(flags.detach || batch.counts['succeeded'] === batch.size ? EXIT.ok : EXIT.failed)
    })
}

async function ended(client: Client, batch: Batch): Promise<Batch> {
  while (batch.status !== 'ended') {
    await sleep(LOOK_MS)
    batch = Batch.parse(await (await client.fetch(`/v1/batches/${batch.id}`)).json())
  }
  return batch
}

function show({ items }: Batch): void {
  const rows = items.map(({ index, status, run_id, cost_usd, error }) => [index, status, run_id, cost_usd === null ? null : usd(cost_usd), error && `${error.code}: ${error.message}`])
  table(['ITEM', 'STATUS', 'RUN', 'COST', 'WHY'], rows, 'it was empty')
}

/** What is in it is for the router to judge. */
function read(content: string): unknown {
  const whole = parsed(content)
  if (Array.isArray(whole)) return { items: whole }
  if (typeof whole === 'object' && whole !== null) return 'prompt' in whole ? { items: [whole] } : whole
  const lines = content.split('\n').filter((line) => line.trim() !== '')
  const items = lines.map((line, i) => {
    const item = parsed(line)
    if (item === undefined)
      throw new CliError(EXIT.usage, `line ${i + 1} is not JSON`, 'write a list of runs, or one a line, such as {"prompt": "Say hello."}')
    return item
  })
  return { items }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function unreadable(error: unknown): never {
  throw new CliError(EXIT.usage, `cannot read the file: ${error instanceof Error ? error.message : String(error)}`)
}
