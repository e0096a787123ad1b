/**
 * Waits until a CLI that was just started can take a prompt. One that cannot do what it is asked says why and exits,
 * before it answers anything; that, a refusal and too long a silence are each a `Fault`.
 */
import { Fault } from '../../shared/faults.ts'
import type { RunSpec } from '../../shared/run-spec.ts'
import { initializeLine, versionLine } from './input.ts'
import type { Answer, Questions } from './questions.ts'
import { unknownAgent } from './refusals.ts'

/** 0.5 s on a quiet machine, 6.3 s for the last of 16 that start together on two cores. */
const READY_MS = 30_000

export type Ready = {
  version: string
  /** The CLI's own idea of its pid, which is another one inside a PID namespace. */
  pidInside: number | undefined
}

export type Waiting = {
  questions: Questions
  spec: RunSpec
  /** Resolves, to the reason, when nothing of it is alive any more. */
  ended: Promise<Fault>
  signal: AbortSignal | undefined
}

export async function untilReady(waiting: Waiting): Promise<Ready> {
  const [initialized, version] = await answers(waiting)
  if (initialized.error !== undefined) throw new Fault('cli', 'the CLI refused to initialise')
  const refusal = unknownAgent(waiting.spec, initialized.response)
  if (refusal) throw refusal
  const told = version.response['version']
  const { pid } = initialized.response
  return { version: typeof told === 'string' ? told : 'unknown', pidInside: typeof pid === 'number' ? pid : undefined }
}

function answers({ questions, spec, ended, signal }: Waiting): Promise<[Answer, Answer]> {
  const both = Promise.all([questions.ask((id) => initializeLine(id, spec)), questions.ask(versionLine)])
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
    void both.then(resolve).then(settled)
    void ended.then(reject).then(settled)
    if (signal?.aborted) tooLate()
  })
}
