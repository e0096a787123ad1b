/**
 * A body that is written when there is something to write, and not when somebody asks for the next piece.
 *
 * How it leaves is for the host to say: one that writes to a socket itself finds the source of a body by `sourceOf` and gives
 * it a sink of its own; everywhere else it is an ordinary ReadableStream, and nothing begins until somebody reads it.
 */

/** Where a body goes. Nothing is written to it after `end` or `cut`. */
export interface Sink {
  /** False: this was taken, and the next piece is to wait until `drained`. */
  write(bytes: Uint8Array): boolean
  end(): void
  /** Ends it in a way that whoever reads sees that something is missing. */
  cut(): void
}

export interface BodySource {
  /** Once, before anything else. */
  open(sink: Sink): void
  /** There is room again. */
  drained(): void
  /** Nobody reads any more. */
  gone(): void
}

const sources = new WeakMap<ReadableStream<Uint8Array>, BodySource>()

/** For a body that nobody has read from. */
export function sourceOf(body: ReadableStream<Uint8Array> | null): BodySource | undefined {
  return body ? sources.get(body) : undefined
}

export function bodyOf(source: BodySource): ReadableStream<Uint8Array> {
  let isOpen = false
  const open = () => {
    isOpen = true
    return source
  }
  const body = new ReadableStream<Uint8Array>(
    {
      pull(out) {
        if (isOpen) source.drained()
        else open().open(sinkOf(out))
      },
      cancel() {
        // Whoever has counted on it being read is told that it is not.
        if (!isOpen) open().open(nowhere)
        source.gone()
      },
    },
    // No more is written ahead of who reads than one piece, and nothing before he does.
    { highWaterMark: 0 },
  )
  sources.set(body, source)
  return body
}

function sinkOf(out: ReadableStreamDefaultController<Uint8Array>): Sink {
  return {
    write(bytes) {
      out.enqueue(bytes)
      // Below zero: it lies there, as nobody had asked for it.
      return (out.desiredSize ?? 0) >= 0
    },
    end: () => out.close(),
    cut: () => out.error(new Error('the stream was cut')),
  }
}

/** Takes nothing. */
export const nowhere: Sink = { write: () => false, end: () => undefined, cut: () => undefined }
