/**
 * One subscriber of a run: what its cursor has is framed and written as soon as it is there, for as long as the client takes
 * it, and nothing is read ahead of that.
 *
 * There may be thousands, most of them waiting. So there is no promise, timer or signal while one waits, nothing of the
 * request is held, and what becomes durable together is written together.
 */
import type { Recheck } from '../guard/admission.ts'
import { LOOK_EVERY_MS, whyLeave } from '../guard/watch.ts'
import type { Cursor, Deps, EventChunk, RunRow } from '../ports.ts'
import { beatOf, type Beat, type Beating } from './beat.ts'
import type { BodySource, Sink } from './body-source.ts'
import type { Framing } from './stream.ts'

const COMMENT_EVERY_MS = 15_000
/** How often a waiting run's place in the line is looked at. */
const POSITION_EVERY_MS = 1_000
/** A client that takes nothing for so long is let go; it can resume. */
const BLOCKED_MS = 30_000
const decoder = new TextDecoder()

export interface RunStreamParts {
  readonly deps: Pick<Deps, 'hub' | 'line' | 'records' | 'platform' | 'settings' | 'log'>
  /** As it was a moment ago. */
  readonly row: RunRow
  readonly afterSeq: number
  readonly recheck: Recheck
  readonly framing: Framing
}

export class RunStream implements BodySource, Beating {
  readonly #parts: RunStreamParts
  readonly #beat: Beat
  #sink: Sink | undefined
  #cursor: Cursor | undefined
  #leave: (() => void) | undefined
  /** Woken, and will look before the event loop comes round. */
  #called = false
  #reading = false
  /** It was to look while it was reading, when it may have looked already. */
  #again = false
  /** On the clock of the beat, like all of these. */
  #blockedSince: number | undefined
  #spokenAt = 0
  /** When it was last asked whether he may be here; undefined: it is being asked. */
  #lookedAt: number | undefined
  #askedAt: number | undefined
  #waits: boolean
  #place: number | undefined

  constructor(parts: RunStreamParts) {
    this.#parts = parts
    const { commentEveryMs = COMMENT_EVERY_MS, blockedMs = BLOCKED_MS } = parts.deps.settings
    this.#beat = beatOf(parts.deps, Math.min(POSITION_EVERY_MS, commentEveryMs, blockedMs))
    this.#waits = parts.row.state === 'queued' || parts.row.state === 'offered'
  }

  open(sink: Sink): void {
    const { deps, row, afterSeq, framing } = this.#parts
    this.#sink = sink
    this.#leave = deps.hub.attend({ run: row.id, tenant: row.tenant })
    this.#cursor = deps.hub.follow(row, afterSeq, () => this.#call())
    this.#beat.add(this)
    this.#lookedAt = this.#beat.now
    this.#write(framing.head)
    if (this.#waits) void this.#askPlace()
    void this.#read()
  }

  drained(): void {
    this.#blockedSince = undefined
    void this.#read()
  }

  gone(): void {
    this.#close()
  }

  beat(now: number): void {
    const { framing, deps: { settings, platform } } = this.#parts
    // Not a beat too early: there may be few beats in it.
    if (this.#blockedSince !== undefined && now - this.#blockedSince > (settings.blockedMs ?? BLOCKED_MS)) {
      this.#log('a subscriber that does not read was let go')
      return this.#close()?.cut()
    }
    const isSilent = this.#blockedSince === undefined && now - this.#spokenAt >= (settings.commentEveryMs ?? COMMENT_EVERY_MS)
    if (isSilent) this.#write(framing.comment(platform.now()))
    if (this.#lookedAt !== undefined && now - this.#lookedAt >= LOOK_EVERY_MS) void this.#look()
    if (this.#waits && this.#askedAt !== undefined && now - this.#askedAt >= POSITION_EVERY_MS) void this.#askPlace()
    // One that was told of something and did not look would be silent for ever. Where nothing was told, nothing is read.
    if (!this.#reading && this.#blockedSince === undefined) void this.#read()
  }

  /** What is committed together comes in several calls, one right after the other. */
  #call(): void {
    if (this.#called) return
    this.#called = true
    queueMicrotask(() => {
      this.#called = false
      void this.#read()
    })
  }

  /** Until there is nothing more, or no room for it. */
  async #read(): Promise<void> {
    this.#again = true
    if (this.#reading) return
    this.#reading = true
    const { framing } = this.#parts
    try {
      while (this.#cursor && this.#blockedSince === undefined) {
        this.#again = false
        const next = this.#cursor.next()
        // What was handed over is written now, and not a turn later.
        const page = next instanceof Promise ? await next : next
        if (page === undefined) {
          if (this.#again) continue
          break
        }
        if (page === 'end') {
          this.#close()?.end()
          break
        }
        this.#waits = false
        for (const chunk of page) {
          this.#write(chunk.kind === 'ev' ? framing.lines(chunk.first, chunk.bytes) : await this.#mark(chunk))
        }
      }
    } catch (error) {
      this.#failed(error)
    }
    this.#reading = false
  }

  async #mark({ first, bytes }: EventChunk): Promise<Uint8Array | undefined> {
    const { deps, row, framing } = this.#parts
    const text = decoder.decode(bytes)
    const { kind } = JSON.parse(text) as { kind: string }
    return kind === 'exit' ? framing.end(first, await deps.records.latest(row)) : framing.mark(first, kind, text)
  }

  /** Nothing once it is over, or where the dialect has no word. */
  #write(bytes: Uint8Array | undefined): void {
    if (!bytes || !this.#sink) return
    this.#spokenAt = this.#beat.now
    if (!this.#sink.write(bytes)) this.#blockedSince ??= this.#beat.now
  }

  async #look(): Promise<void> {
    this.#lookedAt = undefined
    const why = await whyLeave(this.#parts.recheck)
    this.#lookedAt = this.#beat.now
    const isBlocked = this.#blockedSince !== undefined
    const sink = why && this.#close()
    if (!sink) return
    this.#log('a subscriber whose token is no longer good was let go')
    // What waits to be read by a client that does not read would keep its connection open.
    if (isBlocked) sink.cut()
    else sink.end()
  }

  async #askPlace(): Promise<void> {
    const { deps, row, framing } = this.#parts
    this.#askedAt = undefined
    try {
      const place = await deps.line.position(row)
      this.#askedAt = this.#beat.now
      // By now there may be events, which end the wait.
      this.#waits &&= place !== undefined
      if (!this.#waits || place === undefined || place === this.#place || this.#blockedSince !== undefined) return
      this.#place = place
      this.#write(framing.queued?.(place))
    } catch (error) {
      this.#failed(error)
    }
  }

  #failed(error: unknown): void {
    const sink = this.#close()
    if (sink) this.#parts.deps.log.error({ err: error, run: this.#parts.row.id }, 'a stream was cut')
    sink?.cut()
  }

  /** It is over for him; the sink, the first time. */
  #close(): Sink | undefined {
    const sink = this.#sink
    if (!sink) return undefined
    this.#sink = undefined
    this.#beat.delete(this)
    this.#cursor?.close()
    this.#cursor = undefined
    this.#leave?.()
    return sink
  }

  #log(message: string): void {
    this.#parts.deps.log.info({ run: this.#parts.row.id }, message)
  }
}
