/** What the CLI is asked over its control protocol, and which answer belongs to which question. */
import { randomUUID } from 'node:crypto'
import type { Control } from './output.ts'

export type Answer = Control & { type: 'answer' }

export class Questions {
  readonly #write: (line: string) => void
  readonly #open = new Map<string, (answer: Answer) => void>()

  constructor(write: (line: string) => void) {
    this.#write = write
  }

  /** Never settles if there is no answer. */
  ask(encode: (id: string) => string): Promise<Answer> {
    const id = randomUUID()
    this.#write(encode(id))
    return new Promise((resolve) => this.#open.set(id, resolve))
  }

  answered(answer: Answer): void {
    this.#open.get(answer.id)?.(answer)
    this.#open.delete(answer.id)
  }
}
