/** Where the lines of a floor come from: a CLI that is spawned for each run, with its prompt on stdin. */
import { spawn } from 'node:child_process'

/** Whole lines, each with its `\n`, as they came out of the pipe. */
export interface Sink {
  lines(bytes: Buffer): void
  end(): void
}

export interface Source {
  pause(): void
  resume(): void
  /** Lets the turn end early. */
  interrupt(): void
}

export type StartSource = (prompt: string, sink: Sink) => Source

const NEWLINE = 0x0a
const RESULT = Buffer.from('{"type":"result"')

export const spawned =
  (claude: string): StartSource =>
  (prompt, sink) => {
    const child = spawn(claude, ['--input-format=stream-json', '--output-format=stream-json', '--verbose', '-p'], { stdio: ['pipe', 'pipe', 'ignore'] })
    let rest: Buffer | undefined
    child.stdin.on('error', () => undefined)
    child.stdin.write(`${JSON.stringify({ type: 'user', message: { role: 'user', content: prompt } })}\n`)
    child.stdout.on('data', (piece: Buffer) => {
      const data: Buffer = rest ? Buffer.concat([rest, piece]) : piece
      const end = data.lastIndexOf(NEWLINE) + 1
      rest = end === data.length ? undefined : data.subarray(end)
      if (end === 0) return
      const lines = data.subarray(0, end)
      // The result is the last line of a turn, and the fake CLI prints nothing after it.
      if (lines.indexOf(RESULT, Math.max(0, lines.lastIndexOf(NEWLINE, lines.length - 2))) >= 0) child.stdin.end()
      sink.lines(lines)
    })
    child.once('close', () => sink.end())
    return {
      pause: () => void child.stdout.pause(),
      resume: () => void child.stdout.resume(),
      // A turn without an end of its own ends with its stdin, and there is no answer to take out of its lines.
      interrupt: () => void child.stdin.end(),
    }
  }
