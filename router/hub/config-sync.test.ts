import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { ConfigFile } from '../../shared/config-files.ts'
import type { ConfigMessage, Hello } from '../../shared/frames.ts'
import { CONFIG_PART_BYTES } from '../../shared/limits.ts'
import { CONFIG_CAP, ConfigSync, partsOf, type ConfigPeer, type ConfigStanding } from './config-sync.ts'

const POOL = { tenant: 'main', pool: 'default' }
const hello = (caps: string[]): Hello => ({ t: 'hello', proto: [1, 1], boot: crypto.randomUUID(), conn: 1, agent: '0', cli: null, os: 'test', caps, slots: 1, labels: {}, provider: null, runs: [] })
const rule = (content: string): ConfigFile => ({ kind: 'rules', name: 'style', content })

/** A database whose answers are given when the test says so, each of what was there when it was asked. */
function rig({ caps = [CONFIG_CAP] } = {}) {
  const answers: (() => void)[] = []
  const sent: { conn: number; version: number }[] = []
  const stood: ConfigStanding[] = []
  let version = 1
  let link: { conn: number; hello: Hello } | undefined = { conn: 1, hello: hello(caps) }
  const later = <T>(value: T) => new Promise<T>((resolve) => answers.push(() => resolve(value)))
  const source = { version: () => later(version), read: () => later({ version, files: [rule(`version ${version}`)] }) }
  const peer: ConfigPeer = {
    who: POOL,
    get socket() {
      return link && { conn: link.conn, send: (message: ConfigMessage) => void sent.push({ conn: link!.conn, version: message.version }) }
    },
    core: {
      get hello() {
        return link?.hello
      },
    },
  }
  const syncOf = () => new ConfigSync(peer, source, (standing) => void stood.push(standing))
  return {
    sync: syncOf(),
    again: syncOf,
    sent,
    stood,
    get version() {
      return version
    },
    change: () => void version++,
    connect: (conn: number) => void (link = { conn, hello: hello(caps) }),
    cut: () => void (link = undefined),
    async answer(which = 0) {
      answers.splice(which % Math.max(1, answers.length), 1)[0]?.()
      for (let turns = 0; turns < 8; turns++) await Promise.resolve()
    },
    async settle() {
      while (answers.length > 0) await this.answer()
    },
  }
}

describe('the way of config files to a runner', () => {
  it('sends what the connection has not been sent, once', async () => {
    const r = rig()
    const both = Promise.all([r.sync.sync(), r.sync.sync()])
    await r.settle()
    await both
    expect(r.sent).toEqual([{ conn: 1, version: 1 }])
    r.change()
    const next = r.sync.sync()
    await r.settle()
    await next
    expect(r.sent.at(-1)).toEqual({ conn: 1, version: 2 })
  })

  it('has nothing to do for a runner that does not know of them, or is not there', async () => {
    const older = rig({ caps: [] })
    await older.sync.sync()
    const gone = rig()
    gone.cut()
    await gone.sync.sync()
    expect([older.sent, gone.sent]).toEqual([[], []])
  })

  it('goes on where it stood when its host had forgotten it', async () => {
    const r = rig()
    const first = r.sync.sync()
    await r.settle()
    await first
    r.sync.heard(1, { t: 'configured', version: 1, error: 'no' })
    r.sync.heard(7, { t: 'configured', version: 9 })
    const revived = r.again()
    revived.restore(r.stood.at(-1)!)
    expect(revived.has).toEqual({ t: 'configured', version: 1, error: 'no' })
    const second = revived.sync()
    await r.settle()
    await second
    expect(r.sent).toHaveLength(1)
    r.connect(2)
    expect(revived.has).toBeUndefined()
  })

  it('says that it failed, and tries again when it is asked again', async () => {
    let fails = true
    const sent: ConfigMessage[] = []
    const peer: ConfigPeer = { who: POOL, socket: { conn: 1, send: (message) => void sent.push(message) }, core: { hello: { caps: [CONFIG_CAP] } } }
    const source = {
      version: () => Promise.resolve(1),
      read: () => (fails ? Promise.reject(new Error('away')) : Promise.resolve({ version: 1, files: [] })),
    }
    const sync = new ConfigSync(peer, source)
    await expect(Promise.all([sync.sync(), sync.sync()])).rejects.toThrow('away')
    fails = false
    await sync.sync()
    expect(sent).toMatchObject([{ version: 1, parts: 1, files: [] }])
  })

  it('keeps its promise in whatever order things happen: what was there when it was asked has been sent when it is done', async () => {
    const step = fc.oneof(
      { weight: 4, arbitrary: fc.constant({ do: 'sync' as const }) },
      { weight: 3, arbitrary: fc.constant({ do: 'change' as const }) },
      { weight: 1, arbitrary: fc.constant({ do: 'reconnect' as const }) },
      { weight: 6, arbitrary: fc.nat(3).map((which) => ({ do: 'answer' as const, which })) },
    )
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
        const r = rig()
        let conn = 1
        const promises: Promise<void>[] = []
        const broken: object[] = []
        for (const s of steps) {
          if (s.do === 'change') r.change()
          else if (s.do === 'answer') await r.answer(s.which)
          else if (s.do === 'reconnect') r.connect(++conn)
          else {
            const asked = { conn, version: r.version }
            promises.push(
              r.sync.sync().then(() => {
                const last = r.sent.findLast((message) => message.conn === conn)?.version ?? 0
                // Of another connection nobody was promised anything.
                if (asked.conn === conn && last < asked.version) broken.push(asked)
              }),
            )
          }
        }
        await r.settle()
        await Promise.all(promises)
        expect(broken).toEqual([])
        const versions = r.sent.filter((message) => message.conn === conn).map(({ version }) => version)
        expect(versions).toEqual([...new Set(versions)].toSorted((a, b) => a - b))
      }),
      { numRuns: 2_000 },
    )
  })
})

describe('the parts of a set', () => {
  it('hold every file once, in order, and no more than fits into a message', () => {
    const files = fc.array(fc.integer({ min: 1, max: 200_000 }), { maxLength: 30 }).map((sizes) => sizes.map((size, i) => ({ ...rule('€'.repeat(size)), name: `n${i}` })))
    fc.assert(
      fc.property(files, (all) => {
        const parts = partsOf(3, all)
        expect(parts.length).toBeGreaterThan(0)
        expect(parts.flatMap((part) => part.files)).toEqual(all)
        expect(parts.map(({ part }) => part)).toEqual(parts.map((_, i) => i))
        for (const part of parts) {
          expect([part.version, part.parts]).toEqual([3, parts.length])
          const size = Buffer.byteLength(JSON.stringify(part.files))
          expect(part.files.length === 1 || size <= CONFIG_PART_BYTES + part.files.length + 2).toBe(true)
        }
      }),
      { numRuns: 50 },
    )
  })
})
