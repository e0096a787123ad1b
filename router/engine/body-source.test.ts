import { describe, expect, it } from 'vitest'
import { bodyOf, sourceOf, type BodySource, type Sink } from './body-source.ts'

/** Writes what it has while it is taken, and then ends. */
class Pieces implements BodySource {
  readonly #left: string[]
  readonly heard: string[] = []
  written = 0
  sink: Sink | undefined

  constructor(...pieces: string[]) {
    this.#left = pieces
  }

  open(sink: Sink): void {
    this.heard.push('open')
    this.sink = sink
    this.#write()
  }

  drained(): void {
    this.heard.push('drained')
    this.#write()
  }

  gone(): void {
    this.heard.push('gone')
  }

  #write(): void {
    for (let piece = this.#left.shift(); piece !== undefined; piece = this.#left.shift()) {
      this.written++
      if (!this.sink!.write(new TextEncoder().encode(piece))) return
    }
    this.sink!.end()
  }
}

describe('a body with a source', () => {
  it('is written no more than a piece ahead of who reads, and not before he does', async () => {
    const source = new Pieces('a', 'b', 'c', 'd')
    const reader = bodyOf(source).getReader()
    await Promise.resolve()
    expect(source.heard).toEqual([])
    const read = async () => new TextDecoder().decode((await reader.read()).value)
    expect([await read(), source.written]).toEqual(['a', 2])
    await Promise.resolve()
    expect(source.written).toBe(2)
    expect([await read(), source.written]).toEqual(['b', 2])
    expect([await read(), source.written]).toEqual(['c', 4])
    expect([await read(), source.heard]).toEqual(['d', ['open', 'drained']])
    expect(await reader.read()).toEqual({ done: true, value: undefined })
  })

  it('is found by its body, and by no other', () => {
    const source = new Pieces()
    expect(sourceOf(bodyOf(source))).toBe(source)
    expect([sourceOf(new ReadableStream()), sourceOf(null)]).toEqual([undefined, undefined])
  })

  it('fails for who reads when it is cut', async () => {
    const source = new Pieces('a', 'b')
    const reader = bodyOf(source).getReader()
    await reader.read()
    source.sink?.cut()
    await expect(reader.read()).rejects.toThrow('the stream was cut')
  })

  it('is told that nobody reads any more, also when nobody ever did', async () => {
    const [begun, unread] = [new Pieces('a', 'b'), new Pieces('a')]
    const reader = bodyOf(begun).getReader()
    await reader.read()
    await reader.cancel()
    await bodyOf(unread).cancel()
    expect([begun.heard, unread.heard]).toEqual([['open', 'gone'], ['open', 'gone']])
  })
})
