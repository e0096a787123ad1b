/**
 * Requests from the OpenAPI document against a whole router: none may break it, hang, or be answered with what the document
 * does not say. They are the same every time, so that nobody's change fails for what another one left behind, unless
 * `RUNYARD_FUZZ` says how many others there are to be; `RUNYARD_FUZZ_SEED` makes those the same again.
 */
import * as fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Host } from '../kit/host.ts'
import { verdict } from './judge.ts'
import { anyRequest, type Request } from './requests.ts'
import { openWorld, type World } from './world.ts'

const MS_EACH = 200
const USUAL_SEED = 8_787

export function fuzz(host: Host, usually: number): void {
  const numRuns = Number(process.env['RUNYARD_FUZZ'] ?? usually)
  const seed = Number(process.env['RUNYARD_FUZZ_SEED'] ?? (process.env['RUNYARD_FUZZ'] === undefined ? USUAL_SEED : Date.now() % 2 ** 31))

  describe(`fuzzed requests to the router on ${host.name}`, () => {
    let world: World
    beforeAll(async () => void (world = await openWorld(host)))
    afterAll(() => world?.close())

    it(`are answered as the document says, ${numRuns} of them`, { timeout: 60_000 + numRuns * MS_EACH }, async () => {
      const { document } = world
      const statuses = new Map<number, number>()
      const property = fc.asyncProperty(anyRequest(document), async (request) => {
        const answer = await world.send(request)
        statuses.set(answer.status, (statuses.get(answer.status) ?? 0) + 1)
        const wrong = verdict(request, answer, document)
        if (wrong !== undefined) throw new Error(`${request.method} ${request.operation.path} ${wrong}`)
      })
      // One that fails is made smaller a few times only: what it met may be gone.
      await fc.assert(property, { numRuns, seed, interruptAfterTimeLimit: 45_000 + numRuns * MS_EACH, reporter: report })
      const share = (from: number) => [...statuses].reduce((sum, [status, n]) => sum + (status >= from && status < from + 100 ? n : 0), 0) / numRuns
      // Were most of them refused at the door, little would have been tried.
      expect(share(200)).toBeGreaterThan(0.15)
      expect(share(400)).toBeGreaterThan(0.2)
    })

    it('leave it as able as before', async () => {
      const [operation] = world.document.operations.filter(({ path, method }) => path === '/readyz' && method === 'GET')
      const request: Request = { operation: operation!, method: 'GET', path: {}, query: [], headers: {}, body: undefined, caller: 'nobody' }
      expect((await world.send(request)).status).toBe(200)
    })
  })
}

function report(details: fc.RunDetails<[Request]>): void {
  if (!details.failed) return
  const { seed, numRuns, counterexample, errorInstance } = details
  const [request] = counterexample ?? []
  const { operation, ...sent } = request ?? {}
  const what = JSON.stringify({ ...sent, path: operation?.path, values: request?.path }).slice(0, 4_000)
  throw new Error(`RUNYARD_FUZZ_SEED=${seed}, after ${numRuns} requests\n${String(errorInstance)}\n${what}`, { cause: errorInstance })
}
