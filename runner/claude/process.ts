/**
 * One CLI process: spawned and made ready by `prepare`, given prompts by `turn`, one at a time, ended by `cancel`.
 *
 * It decides how the CLI is started, spoken to and ended, and whether it may stay after a turn. Policy, the working
 * directory, time limits and what becomes of the lines are the caller's. Whatever ends the process, the sweep follows, and
 * `turn`, `cancel` and `gone` resolve after it.
 */
import { randomUUID } from 'node:crypto'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { setImmediate as nextRound, setTimeout as sleep } from 'node:timers/promises'
import type { CancelMode, TurnEnd, TurnSink } from '../cli-process.ts'
import type { LivingCli } from '../warm/resident.ts'
import type { Ladder } from './cancel.ts'
import { Child, type Exit } from './child.ts'
import { Costs } from './costs.ts'
import { Household } from './household.ts'
import { interruptLine, refusalLine, userLine } from './input.ts'
import { commandOf, startsProcesses, type Launch } from './launch.ts'
import type { Control, Output } from './output.ts'
import type { Piece } from './pieces.ts'
import { Questions } from './questions.ts'
import { untilReady, type Ready } from './ready.ts'
import { refusalOf } from './refusals.ts'
import { ladderOf, linger, RUNG } from './rungs.ts'
import { Strays } from './strays.ts'
import { outputOf, Turn } from './turn.ts'

/** An interrupt is answered before the result that it brings about. */
const ANSWER_MS = 500

export class ClaudeProcess implements LivingCli {
  /** Resolves when nothing of it is alive, whatever ended it. Never rejects. */
  readonly gone: Promise<void>
  readonly #launch: Launch
  readonly #child: Child
  readonly #questions: Questions
  readonly #costs = new Costs()
  /** Lines from before the first turn, such as those of a SessionStart hook. */
  readonly #early: Piece[] = []
  #ready: Ready = { version: 'unknown', pidInside: undefined }
  #household: Household | undefined
  #ladder: Ladder
  #turn: Turn | undefined
  #turns = 0
  #strays: Strays | undefined
  #printed = ''
  #paused = false
  #cancelled = false
  /** It gets no other turn. */
  #ending = false

  /**
   * Starts the CLI and lets it initialise; nothing is sent to a model. Throws a `Fault`: `agent_not_found`,
   * `session_not_found`, `invalid_request` (agents, MCP configuration, a session id that is in use), `policy` (bypass as
   * root), `cwd`, `cli`; or the signal's reason, if that is one. Then nothing of the process is alive.
   */
  static async prepare(launch: Launch, signal?: AbortSignal): Promise<ClaudeProcess> {
    const { file, argv, env } = commandOf(launch)
    const { cwd, marker, log } = launch
    let made: ClaudeProcess | undefined
    const take = (piece: Piece): void => {
      if (made) made.#read(piece)
    }
    const child = await Child.spawn(file, argv, { cwd, env, marker, wrapped: launch.prefix !== undefined, take, log })
    made = new ClaudeProcess(launch, child)
    try {
      await made.#untilReady(signal)
      return made
    } catch (error) {
      await made.cancel('kill')
      throw error
    }
  }

  constructor(launch: Launch, child: Child) {
    this.#launch = launch
    this.#child = child
    this.#questions = new Questions((line) => child.write(line))
    this.#ladder = this.#newLadder()
    this.gone = child.gone.then(() => this.#forget())
    void child.exited.then((exit) => this.#exited(exit))
  }

  get pid(): number {
    return this.#child.pid
  }

  get cliVersion(): string {
    return this.#ready.version
  }

  /** How many prompts it has been given, but for one that it died without reading. */
  get turns(): number {
    return this.#turns
  }

  /** It is alive, and a prompt would be the next thing that happens to it. */
  get isIdle(): boolean {
    return !this.#ending && this.#turn === undefined && this.#household !== undefined && this.#child.hears
  }

  /**
   * Writes the prompt. Resolves when the turn is over and either the process is idle again or nothing of it is left. It
   * stays if `stay` and if the turn left nothing behind: no process, nothing unread and no doubt about where it stands;
   * one that was interrupted, only if no tool had begun. Then the exit is the one that the process of a single turn would
   * have had. A process that is ending takes no prompt: `turns` tells. Never rejects, but for a turn in the midst of another.
   */
  async turn(prompt: string, sink: TurnSink, { stay = false }: { stay?: boolean } = {}): Promise<TurnEnd> {
    if (this.#turn) throw new Error('the CLI is in the middle of a turn')
    const fit = this.isIdle
    if (!fit && this.#strays) return this.#over()
    const turn = this.#begin(sink, stay)
    if (stay) await this.#household?.settled()
    if (!fit || this.#cancelled || this.#ending || turn.isOver) return this.#last(turn, sink)
    this.#turns++
    const { bytesRead } = this.#child
    this.#child.write(userLine(prompt, randomUUID()))
    if (this.#paused) this.#child.pause()
    else this.#child.resume()
    await Promise.race([turn.over, this.#child.gone])
    const { result } = turn
    if (result && stay && (await this.#isClean(turn)) && this.#rest(turn, sink)) {
      return { code: result.is_error ? 1 : 0, signal: null, result }
    }
    const end = await this.#last(turn, sink)
    // Killed while it was at rest, which was not known yet. After a cancel it may be the interrupt that was left unread.
    if (!this.#cancelled && this.#child.leftUnread && this.#child.bytesRead === bytesRead) this.#turns--
    return end
  }

  /**
   * Ends the turn that is under way, or the process if there is none, beginning at that rung of the ladder; a later call
   * may only hurry. Only an interrupt may leave the process, as `turn` says. Lifts a pause, because a process that cannot
   * print cannot end. Resolves when the process is idle again or nothing of it is alive.
   */
  async cancel(mode: CancelMode): Promise<void> {
    const turn = this.#turn
    this.#cancelled = true
    if (!turn?.stay || mode !== 'interrupt') this.#ending = true
    this.resume()
    // What has no prompt has nothing to interrupt: without stdin it exits at once.
    await this.#ladder.climb(mode === 'interrupt' && !turn ? RUNG.close : RUNG[mode])
    if (!(await turn?.stays)) await this.gone
  }

  /**
   * Stops reading in this turn, or in the next one if there is none; the CLI stops when its pipe is full. Lines that were
   * already read still arrive.
   */
  pause(): void {
    if (this.#cancelled) return
    this.#paused = true
    if (this.#turn) this.#child.pause()
  }

  resume(): void {
    this.#paused = false
    // Before the turn nobody takes the lines, unless it is cancelled and they are to be dropped.
    if (this.#turn || this.#cancelled) this.#child.resume()
  }

  async #untilReady(signal: AbortSignal | undefined): Promise<void> {
    const { spec, marker, prefix, log } = this.#launch
    const ended = this.#child.gone.then(({ code }) => {
      const { text } = this.#child.stderr()
      if (!this.#cancelled && !this.#household) log('the CLI ended before it was ready', { code, stderr: text })
      return refusalOf(`${this.#printed}\n${text}`, code)
    })
    this.#ready = await untilReady({ questions: this.#questions, spec, ended, signal })
    this.#household = new Household(this.pid, marker, prefix === undefined && !startsProcesses(this.#launch))
    this.#child.pause()
  }

  #begin(sink: TurnSink, stay: boolean): Turn {
    const ended = (): void => {
      if (stay) this.#child.pause()
      // Not before: a CLI whose stdin has ended may exit with its output still unread, and that is lost.
      else this.#child.closeInput()
    }
    const turn = new Turn({ sink, costs: this.#costs, stay, ended })
    this.#turn = turn
    this.#ladder = this.#newLadder(turn)
    this.#endPause()
    for (const piece of this.#early.splice(0)) this.#read(piece)
    return turn
  }

  /** What was said between two turns belongs to neither. */
  #endPause(): void {
    this.#strays?.tell()
    if (this.#strays && this.#child.takeStderr().text !== '') this.#launch.log('the CLI wrote to stderr between two turns', {})
    this.#strays = undefined
  }

  /** The turn left nobody behind, and the CLI has heard all that it was told. */
  async #isClean({ strayed, interrupted, usedTools }: Turn): Promise<boolean> {
    if (strayed || (interrupted && usedTools)) return false
    if (interrupted && !(await Promise.race([interrupted.then(() => true), sleep(ANSWER_MS, false)]))) return false
    if ((usedTools || startsProcesses(this.#launch)) && (await this.#household?.hasGuests())) return false
    // What was written to stderr before the result may be in its pipe still.
    await nextRound()
    return true
  }

  /** Back to where it was before the turn; false if by now it may not. Synchronous: a cancel comes before it or after it. */
  #rest(turn: Turn, sink: TurnSink): boolean {
    const strays = new Strays(this.#costs, this.#launch.log)
    for (const piece of turn.held) strays.take(piece, outputOf(piece))
    if (this.#ending || !this.#child.hears || strays.trouble !== undefined) return false
    const stderr = this.#child.takeStderr()
    if (stderr.text !== '') sink.mark(stderr)
    this.#strays = strays
    this.#turn = undefined
    this.#paused = false
    this.#cancelled = false
    this.#ladder = this.#newLadder()
    // It is read on: what it does of its own accord must be known before the next turn.
    this.#child.resume()
    turn.decide(true)
    return true
  }

  /** The end of the process with this turn. */
  async #last(turn: Turn, sink: TurnSink): Promise<TurnEnd> {
    turn.decide(false)
    if (!this.#paused) this.#child.resume()
    const end = await this.#over()
    const stderr = this.#child.stderr()
    if (stderr.text !== '') sink.mark(stderr)
    this.#turn = undefined
    return { ...end, result: turn.result }
  }

  /** Resolves when nothing of it is left. */
  async #over(): Promise<TurnEnd> {
    this.#ending = true
    this.#child.closeInput()
    await linger(this.#child, this.#ladder)
    await this.gone
    const { code, signal } = await this.#child.gone
    return { code, signal, result: undefined }
  }

  #read(piece: Piece): void {
    const output = outputOf(piece)
    if (output?.kind === 'control') this.#control(output.control)
    else if (this.#turn) this.#turn.take(piece, output)
    else if (this.#strays) this.#between(this.#strays, piece, output)
    else if (!this.#cancelled) this.#before(piece, output)
  }

  /** Before the first turn: a result says why there will be none. */
  #before(piece: Piece, output: Output | undefined): void {
    if (output?.kind === 'event' && output.news?.type === 'result') this.#printed = output.news.result.errors.join('\n')
    this.#early.push(piece)
  }

  #between(strays: Strays, piece: Piece, output: Output | undefined): void {
    strays.take(piece, output)
    if (strays.trouble === undefined || this.#ending) return
    this.#launch.log('a CLI that was at rest is ended', { pid: this.pid, why: strays.trouble })
    this.#ending = true
    // From the first rung: what it has begun is being paid for.
    void this.#ladder.climb(RUNG.interrupt)
  }

  #control(control: Control): void {
    if (control.type === 'request') this.#child.write(refusalLine(control.id))
    if (control.type === 'answer') this.#questions.answered(control)
  }

  #exited({ code, signal }: Exit): void {
    const wasIdle = !this.#ending && this.#household !== undefined
    this.#ending = true
    if (this.#turn) return
    if (wasIdle) this.#launch.log('the CLI ended while it was at rest', { pid: this.pid, code, signal })
    // A paused pipe would never come to its end.
    this.#child.resume()
  }

  /** A killed CLI leaves its entry among the live sessions, where a later process may get its pid. */
  async #forget(): Promise<void> {
    this.#strays?.tell()
    const entry = join(this.#launch.configDir, 'sessions', `${this.#ready.pidInside ?? this.pid}.json`)
    // A tool may have put anything in its place; that must not keep a run from ending.
    await rm(entry, { force: true }).catch((error: unknown) => this.#launch.log('an entry of a live session stays', { err: error }))
  }

  #newLadder(turn?: Turn): Ladder {
    const close = (): void => {
      this.#ending = true
      this.#child.closeInput()
    }
    return ladderOf({ child: this.#child, interrupt: () => this.#interrupt(), close, stays: turn?.stays })
  }

  async #interrupt(): Promise<void> {
    const turn = this.#turn
    // Noted first: the tool that the interrupt ends may leave children that ignore it.
    await this.#child.noteFamily()
    // It may be over by now, and its interrupt must not meet the next one.
    if (turn !== this.#turn || turn?.isOver) return
    const answer = this.#questions.ask(interruptLine)
    if (turn) turn.interrupted = answer
  }
}
