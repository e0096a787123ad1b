/** `runyard run "<prompt>"`: a client. The answer goes to stdout, what happens on the way to stderr, and a cut stream is resumed. */
import { EventSourceParserStream, type EventSourceMessage } from 'eventsource-parser/stream'
import { z } from 'zod'
import { openClient, type Client } from './client.ts'
import { CliError, EXIT } from './exit.ts'
import { bold, dim, out, say } from './output.ts'

export interface RunCommand {
  readonly dataDir: string
  readonly url?: string | undefined
  readonly json: boolean
  /** The body of `POST /v1/runs`. */
  readonly body: Record<string, unknown>
}

const RESUME_TRIES = 30
const RESUME_WAIT_MS = 1_000

const Done = z.object({
  id: z.string(),
  status: z.string(),
  session_id: z.string(),
  provider: z.string().nullable(),
  cost_usd: z.number().nullable(),
  duration_ms: z.number().nullable(),
  error: z.object({ code: z.string(), message: z.string() }).optional(),
})
type Done = z.infer<typeof Done>

/** Resolves to the exit code. */
export async function runCommand({ dataDir, url, json, body }: RunCommand): Promise<number> {
  const client = await openClient({ dataDir, url })
  const first = await client.fetch('/v1/runs', {
    method: 'POST',
    headers: { accept: 'text/event-stream' },
    body: JSON.stringify(body),
  })
  const id = first.headers.get('x-run-id') ?? ''
  const show = json ? (event: EventSourceMessage) => out(event.data) : readable()
  const interrupted = onInterrupt(() => {
    say(dim('cancelling …'))
    client.fetch(`/v1/runs/${id}/cancel`, { method: 'POST' }).catch((error: unknown) => say(String(error)))
  })
  try {
    const done = await follow(client, id, first, show)
    if (!json) summarise(done)
    return done.status === 'succeeded' ? EXIT.ok : EXIT.failed
  } finally {
    interrupted()
  }
}

async function follow(client: Client, id: string, first: Response, show: (event: EventSourceMessage) => void): Promise<Done> {
  let response: Response | undefined = first
  let last = '0'
  for (let tries = 0; ; tries++) {
    try {
      response ??= await client.fetch(`/v1/runs/${id}/events`, { headers: { 'last-event-id': last } })
      for await (const event of events(response)) {
        tries = 0
        last = event.id ?? last
        show(event)
        if (event.event === 'done') return Done.parse(JSON.parse(event.data))
      }
    } catch (error) {
      if (
        error instanceof z.ZodError ||
        tries >= RESUME_TRIES ||
        (error instanceof CliError && error.exitCode !== EXIT.unavailable)
      )
        throw error
    }
    if (tries >= RESUME_TRIES) throw new CliError(EXIT.unavailable, `the stream of run ${id} broke off and could not be resumed`)
    response = undefined
    await new Promise((resolve) => setTimeout(resolve, RESUME_WAIT_MS))
  }
}

function events(response: Response): AsyncIterable<EventSourceMessage> {
  if (!response.body) throw new CliError(EXIT.unavailable, 'the router sent no stream')
  return response.body
    .pipeThrough(new TextDecoderStream())
    .pipeThrough(new EventSourceParserStream()) as AsyncIterable<EventSourceMessage>
}

const Delta = z.object({
  type: z.literal('stream_event'),
  event: z.object({
    type: z.literal('content_block_delta'),
    delta: z.object({ type: z.literal('text_delta'), text: z.string() }),
  }),
})
const ToolUse = z.object({
  type: z.literal('assistant'),
  message: z.object({
    content: z.array(
      z.object({ type: z.string(), name: z.string().optional(), input: z.record(z.string(), z.unknown()).optional() }),
    ),
  }),
})
const Started = z.object({ provider: z.string(), cli_version: z.string() })

/** Text as it is written, tools by name, and the word `demo` where nobody should mistake it for Claude. */
function readable(): (event: EventSourceMessage) => void {
  return ({ event, data }) => {
    const json: unknown = JSON.parse(data)
    if (event === 'started') {
      const { provider } = Started.parse(json)
      if (provider === 'demo') say(bold('demo: this is the scripted model that ships with Runyard, not Claude'))
      return
    }
    if (event !== 'message') return
    const delta = Delta.safeParse(json)
    if (delta.success) return void process.stdout.write(delta.data.event.delta.text)
    const turn = ToolUse.safeParse(json)
    if (!turn.success) return
    for (const block of turn.data.message.content) {
      if (block.type === 'text') process.stdout.write('\n')
      if (block.type === 'tool_use') say(dim(`[${block.name} ${brief(block.input)}]`))
    }
  }
}

function brief(input: Record<string, unknown> | undefined): string {
  const [value] = Object.values(input ?? {})
  const text = typeof value === 'string' ? value : JSON.stringify(value ?? '')
  return text.length > 80 ? `${text.slice(0, 80)}…` : text
}

function summarise(done: Done): void {
  const facts = [
    done.status,
    ...(done.provider === 'demo' ? ['demo'] : []),
    `${((done.duration_ms ?? 0) / 1000).toFixed(1)} s`,
    `$${(done.cost_usd ?? 0).toFixed(4)}`,
  ]
  say(dim(`${facts.join(' · ')}  session ${done.session_id}`))
  if (done.error) say(`${bold(done.error.code)}: ${done.error.message}`)
}

/** The first Ctrl-C cancels the run, the second one leaves it. */
function onInterrupt(call: () => void): () => void {
  let count = 0
  const handler = () => {
    if (count++ > 0) process.exit(130)
    call()
  }
  process.on('SIGINT', handler)
  return () => void process.removeListener('SIGINT', handler)
}
