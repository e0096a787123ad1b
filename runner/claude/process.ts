/**
 * One CLI process for one turn: spawned and made ready by `prepare`, given its prompt by `turn`, ended by `cancel`.
 *
 * It decides how the CLI is started, spoken to and ended. Policy, the working directory, time limits and what becomes of
 * the lines are the caller's. Whatever ends the process, the sweep follows, and `turn` and `cancel` resolve after it.
 */
import { randomUUID } from 'node:crypto'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { Fault } from '../../shared/faults.ts'
import type { Line } from '../../shared/lines.ts'
import type { TurnResult } from '../../shared/marks.ts'
import type { RunSpec } from '../../shared/run-spec.ts'
import type { CancelMode, TurnEnd, TurnSink } from '../held-run.ts'
import { Ladder } from './cancel.ts'
import { Child } from './child.ts'
import { initializeLine, interruptLine, refusalLine, userLine, versionLine } from './input.ts'
import { commandOf, type Launch } from './launch.ts'
import { noteSigns, turnResult, type Signs } from './outcome.ts'
import { readOutput, type Control, type News } from './output.ts'
import { refusalOf, unknownAgent } from './refusals.ts'

/** 0.5 s on a quiet machine, 6.3 s for the last of 16 that start together on two cores. */
const READY_MS = 30_000
/** After the end of its stdin the CLI exits within 0.1 s, or 5 s where a shell runs in the background. */
const LINGER_MS = 6_000
const RUNG = { interrupt: 0, close: 1, term: 2, kill: 3 } as const

type Answer = Control & { type: 'answer' }

export class ClaudeProcess {
  readonly #launch: Launch
  readonly #child: Child
  readonly #ladder: Ladder
  readonly #answers = new Map<string, (answer: Answer) => void>()
  /** Lines from before the turn, such as those of a SessionStart hook. */
  readonly #early: Line[] = []
  readonly #turnOver: Promise<void>
  #endTurn: () => void = () => undefined
  #version = 'unknown'
  /** The CLI's own idea of its pid, which is another one inside a PID namespace. */
  #pidInside: number | undefined
  #sink: TurnSink | undefined
  #signs: Signs = {}
  #result: TurnResult | undefined
  #printed = ''
  #initialized = false
  #paused = false
  #cancelled = false

  /**
   * Starts the CLI and lets it initialise; nothing is sent to a model. Throws a `Fault`: `agent_not_found`,
   * `session_not_found`, `invalid_request` (agents, MCP configuration, a session id that is in use), `policy` (bypass as
   * root), `cwd`, `cli`; or the signal's reason, if that is one. Then nothing of the process is alive.
   */
  static async prepare(launch: Launch, signal?: AbortSignal): Promise<ClaudeProcess> {
    const { file, argv, env } = await commandOf(launch)
    const { cwd, marker, log } = launch
    let made: ClaudeProcess | undefined
    const line = (read: Line): void => {
      if (made) made.#read(read)
    }
    const child = await Child.spawn(file, argv, { cwd, env, marker, wrapped: launch.prefix !== undefined, line, log })
    made = new ClaudeProcess(launch, child)
    try {
      await made.#initialize(signal)
      return made
    } catch (error) {
      await made.cancel('kill')
      throw error
    }
  }

  constructor(launch: Launch, child: Child) {
    this.#launch = launch
    this.#child = child
    this.#turnOver = new Promise((resolve) => (this.#endTurn = resolve))
    const gone = child.exited.then(() => undefined)
    this.#ladder = new Ladder(
      [
        { act: () => this.#interrupt(), waitMs: 2_000, done: this.#turnOver },
        { act: () => child.closeInput(), waitMs: 1_000 },
        { act: () => this.#signal('SIGTERM'), waitMs: 3_000 },
        { act: () => this.#signal('SIGKILL'), waitMs: 5_000 },
      ],
      gone,
    )
  }

  get pid(): number {
    return this.#child.pid
  }

  get cliVersion(): string {
    return this.#version
  }

  /** To be called once. Resolves when it has exited, its output was read to the end and nothing is left. Never rejects. */
  async turn(prompt: string, sink: TurnSink): Promise<TurnEnd> {
    this.#sink = sink
    for (const line of this.#early.splice(0)) this.#deliver(line, sink)
    this.#child.write(userLine(prompt, randomUUID()))
    if (!this.#paused) this.#child.resume()
    const linger = this.#turnOver.then(() => this.#linger())
    const { code, signal } = await this.#child.gone
    this.#endTurn()
    await linger
    const stderr = this.#child.stderr()
    if (stderr.text !== '') sink.mark(stderr)
    return { code, signal, result: this.#result }
  }

  /**
   * Ends it, beginning at that rung of the ladder; a later call may only hurry. Lifts a pause, because a process that
   * cannot print cannot end. Resolves when nothing of it is alive.
   */
  async cancel(mode: CancelMode): Promise<void> {
    this.#cancelled = true
    this.resume()
    // What never had a prompt has nothing to interrupt: without stdin it exits at once.
    await this.#ladder.climb(mode === 'interrupt' && !this.#sink ? RUNG.close : RUNG[mode])
    await this.#child.gone
    // A killed CLI leaves its entry among the live sessions, where a later process may get its pid.
    const entry = join(this.#launch.configDir, 'sessions', `${this.#pidInside ?? this.pid}.json`)
    // A tool may have put anything in its place; that must not keep a run from ending.
    await rm(entry, { force: true }).catch((error: unknown) => this.#launch.log('an entry of a live session stays', { err: error }))
  }

  /** Stops reading; the CLI stops when its pipe is full. Lines that were already read still arrive. */
  pause(): void {
    if (this.#cancelled) return
    this.#paused = true
    this.#child.pause()
  }

  resume(): void {
    this.#paused = false
    // Before the turn nobody takes the lines, unless it is cancelled and they are to be dropped.
    if (this.#sink || this.#cancelled) this.#child.resume()
  }

  async #initialize(signal: AbortSignal | undefined): Promise<void> {
    const [initialized, version] = await this.#answered(signal)
    if (initialized.error !== undefined) throw new Fault('cli', 'the CLI refused to initialise')
    const refusal = unknownAgent(this.#launch.spec, initialized.response)
    if (refusal) throw refusal
    const told = version.response['version']
    if (typeof told === 'string') this.#version = told
    const { pid } = initialized.response
    if (typeof pid === 'number') this.#pidInside = pid
    this.#child.pause()
  }

  #ask(encode: (id: string, spec: RunSpec) => string): Promise<Answer> {
    const id = randomUUID()
    this.#child.write(encode(id, this.#launch.spec))
    return new Promise((resolve) => this.#answers.set(id, resolve))
  }

  /** A CLI that cannot do what it is asked says why and exits, before it answers anything. */
  #answered(signal: AbortSignal | undefined): Promise<[Answer, Answer]> {
    const answers = Promise.all([this.#ask(initializeLine), this.#ask(versionLine)])
    return new Promise((resolve, reject) => {
      const tooLate = (): void => {
        const reason: unknown = signal?.reason
        reject(reason instanceof Fault ? reason : new Fault('cli', 'the CLI was not ready in time'))
      }
      const timer = setTimeout(tooLate, READY_MS)
      signal?.addEventListener('abort', tooLate, { once: true })
      const settled = (): void => {
        clearTimeout(timer)
        signal?.removeEventListener('abort', tooLate)
      }
      void answers.then(resolve).then(settled)
      void this.#child.gone.then(({ code }) => reject(this.#refusal(code))).then(settled)
      if (signal?.aborted) tooLate()
    })
  }

  #refusal(code: number | null): Fault {
    const { text } = this.#child.stderr()
    if (!this.#sink && !this.#cancelled) this.#launch.log('the CLI ended before its turn', { code, stderr: text })
    return refusalOf(`${this.#printed}\n${text}`, code)
  }

  #read(line: Line): void {
    if (this.#sink) this.#deliver(line, this.#sink)
    else if (!this.#cancelled) this.#prelude(line)
  }

  /** Before the turn: answers are awaited, and a result says why there will be none. */
  #prelude(line: Line): void {
    const output = 'bytes' in line ? readOutput(line.bytes) : undefined
    if (output?.kind === 'control') return this.#control(output.control)
    if (output?.kind === 'event' && output.news?.type === 'result') this.#printed = output.news.result.errors.join('\n')
    this.#early.push(line)
  }

  #deliver(line: Line, sink: TurnSink): void {
    if ('tooLong' in line) return sink.mark({ kind: 'gap', reason: 'line_too_long', bytes: line.tooLong })
    const output = readOutput(line.bytes)
    switch (output.kind) {
      case 'control':
        return this.#control(output.control)
      case 'raw':
        return sink.mark(output.mark)
      case 'event': {
        const { news } = output
        const seq = sink.line(line.bytes, this.#mustKeep(news))
        if (news) this.#note(news, seq)
      }
    }
  }

  /** Once each: what else calls itself so may be a tool's. */
  #mustKeep(news: News | undefined): boolean {
    if (news?.type === 'result') return !this.#result
    if (news?.type !== 'init' || this.#initialized) return false
    return (this.#initialized = true)
  }

  #note(news: News, seq: number): void {
    this.#signs = noteSigns(this.#signs, news)
    if (news.type !== 'result' || this.#result) return
    this.#result = turnResult(seq, news.result, this.#signs)
    // Not before: a CLI whose stdin has ended may exit with its output still unread, and that is lost.
    this.#child.closeInput()
    this.#endTurn()
  }

  #control(control: Control): void {
    if (control.type === 'request') this.#child.write(refusalLine(control.id))
    if (control.type !== 'answer') return
    this.#answers.get(control.id)?.(control)
    this.#answers.delete(control.id)
  }

  /** A process that stays after its turn is not let stay. Its result stands. */
  async #linger(): Promise<void> {
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<true>((resolve) => (timer = setTimeout(resolve, LINGER_MS, true)))
    if (await Promise.race([late, this.#child.exited.then(() => false)])) await this.#ladder.climb(RUNG.term)
    clearTimeout(timer)
  }

  async #interrupt(): Promise<void> {
    // Noted first: the tool that the interrupt ends may leave children that ignore it.
    await this.#child.noteFamily()
    this.#child.write(interruptLine(randomUUID()))
  }

  async #signal(name: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    await this.#child.noteFamily()
    this.#child.signal(name)
  }
}
