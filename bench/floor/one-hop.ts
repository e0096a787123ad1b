/** The one-hop floor, a process: HTTP in, a CLI spawned, its stdout out as server-sent events. */
import type { ServerResponse } from 'node:http'
import { answer } from '../children.ts'
import { Framer } from './frame.ts'
import { listen } from './requests.ts'
import { spawned, type Source } from './source.ts'

const start = spawned(process.argv[2]!)
const live = new Map<number, Source>()
const cancelled = new Set<number>()

const { port } = await listen({
  start(id, prompt, response: ServerResponse) {
    const framer = new Framer()
    const source = start(prompt, {
      lines(bytes) {
        if (response.write(framer.lines(bytes))) return
        source.pause()
        response.once('drain', () => source.resume())
      },
      end() {
        live.delete(id)
        response.end(framer.done(cancelled.delete(id) ? 'cancelled' : 'succeeded'))
      },
    })
    live.set(id, source)
    response.once('close', () => live.get(id)?.interrupt())
  },
  cancel(id) {
    if (!live.has(id)) return
    cancelled.add(id)
    live.get(id)?.interrupt()
  },
})

answer({ port: () => port })
