import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { bundleWorker, ROOT, WRANGLER } from './bundle.ts'
import { capnpConfig, quote, reachable, usesD1, type EdgeConfig } from './config.ts'
import { cronMinutes, readWrangler, Wrangler } from './wrangler.ts'
import { startWorkerd } from './workerd.ts'

const wrangler = Wrangler.parse({
  main: 'worker.ts',
  compatibility_date: '2026-10-23',
  vars: { FROM_FILE: 'file', LIMITS: { a: 1 } },
  durable_objects: { bindings: [{ name: 'RUNNER', class_name: 'RunnerDO' }] },
  migrations: [{ new_sqlite_classes: ['RunnerDO'] }],
  d1_databases: [{ binding: 'DB', database_id: 'the-id' }],
})
const config: EdgeConfig = {
  address: '127.0.0.1:0',
  vars: {},
  disks: { objects: '/data/objects', d1: '/data/d1' },
  control: { secret: 's', unsafe: false },
}

/** What Cap'n Proto's lexer would make of a literal that has no escapes but `\xNN`; undefined when it would end early. */
function unquoted(literal: string): string | undefined {
  const inner = /^"((?:[^"\\]|\\x[0-9a-f]{2})*)"$/.exec(literal)?.[1]
  return inner?.replace(/\\x(..)/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)))
}

const hostile = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.string({ unit: fc.constantFrom('"', '\\', '\n', '\r', '\0', '\u007F', 'x', '0', ')', ',', '#', '\u2028', '💥') }),
  fc.constantFrom('"), (name = "X', '\\', '\\"', '\\x41', '\\u0041', '`id`', '$(id)', '${1}'),
)

describe('a text in the configuration', () => {
  it('is one literal on one line, whatever it holds, and reads back as it was', () => {
    fc.assert(
      fc.property(hostile, (text) => {
        const literal = quote(text)
        expect(unquoted(literal)).toBe(text)
        expect(literal).not.toMatch(/[\n\r\0]/)
      }),
    )
  })

  it('reaches the Worker as it was: hostile names and values, in one start of the real workerd', async () => {
    const names = fc.string({ unit: fc.constantFrom('"', '\\', '\n', ')', '=', 'é', 'A'), minLength: 1 })
    const values = fc.sample(hostile, 200)
    const vars = Object.fromEntries(values.map((value, i) => [`V${i}${fc.sample(names, 1)[0]!}`, value]))
    const dir = await mkdtemp(join(tmpdir(), 'runyard "edge" \\ '))
    try {
      const { path: bundle } = await bundleWorker(join(ROOT, 'edge/fixtures/worker.ts'), join(dir, 'fixture.js'))
      const worker = await startWorkerd({ bundle, wrangler: WRANGLER, dir, vars })
      try {
        const seen = (await (await fetch(`${worker.url}/vars`)).json()) as Record<string, unknown>
        expect(Object.fromEntries(Object.entries(seen).filter(([name]) => name in vars))).toEqual(vars)
      } finally {
        await worker.kill()
      }
    } finally {
      await rm(dir, { recursive: true, force: true })
    }
  })
})

describe('the configuration', () => {
  it('takes its bindings from wrangler.toml, and vars of the caller before those of the file', () => {
    const text = capnpConfig(wrangler, { ...config, vars: { FROM_FILE: 'mine', SIGNING_KEY: '{"a":1}' } })
    expect(text).toContain('(name = "FROM_FILE", text = "mine")')
    expect(text).not.toContain('"file"')
    expect(text).toContain(String.raw`(name = "LIMITS", json = "{\x22a\x22:1}")`)
    expect(text).toContain(String.raw`(name = "SIGNING_KEY", text = "{\x22a\x22:1}")`)
    expect(text).toContain('(className = "RunnerDO", uniqueKey = "RunnerDO", enableSql = true)')
  })

  it('gives the Worker no D1 when it is told of another database', () => {
    expect(capnpConfig(wrangler, config)).toContain('the-id')
    expect(usesD1(wrangler, { LIBSQL_URL: '' })).toBe(true)
    const vars = { LIBSQL_URL: 'http://127.0.0.1:8080' }
    expect(usesD1(wrangler, vars)).toBe(false)
    expect(capnpConfig(wrangler, { ...config, vars })).not.toMatch(/d1/i)
  })

  it('knows of nothing unsafe unless told to', () => {
    expect(capnpConfig(wrangler, config)).not.toContain('unsafe')
    const unsafe = capnpConfig(wrangler, { ...config, control: { secret: 's', unsafe: true } })
    expect(unsafe).toContain('"unsafe_module"')
    const internet = (text: string) => /\(name = "internet", .*/.exec(text)?.[0]
    expect([internet(unsafe)?.includes('"local"'), internet(capnpConfig(wrangler, config))?.includes('"local"')]).toEqual([true, false])
  })

  it('has a network of its own for webhooks that leads to the internet alone, and another for those whom an operator allows more', () => {
    const text = capnpConfig(wrangler, { ...config, vars: { LIBSQL_URL: 'libsql://db.example.com' } })
    expect(text).toContain('(name = "WEBHOOKS_PUBLIC", network = (allow = ["public"], ')
    expect(text).toContain('(name = "WEBHOOKS_PRIVATE", network = (allow = ["public", "private", "local"], ')
    expect(text).toContain('(name = "WEBHOOKS_PUBLIC", service = "WEBHOOKS_PUBLIC")')
  })

  it('lets the Worker reach the internet, and of the network around it the database alone', () => {
    expect(reachable(undefined)).toEqual(['public'])
    expect(reachable('')).toEqual(['public'])
    expect(reachable('not a url')).toEqual(['public'])
    expect(reachable('http://127.0.0.1:8080')).toEqual(['public', '127.0.0.1/32'])
    expect(reachable('http://[fd00::1]:8080/x')).toEqual(['public', 'fd00::1/128'])
    expect(reachable('libsql://db.example.com')).toEqual(['public', 'private', 'local'])
  })
})

describe('our wrangler.toml', () => {
  it('is understood, and follows only cron entries that we can', async () => {
    const ours = await readWrangler(WRANGLER)
    expect(ours.durable_objects.bindings.map((b) => b.class_name)).toEqual(ours.migrations.flatMap((m) => m.new_sqlite_classes))
    expect(ours.triggers.crons.map(cronMinutes)).not.toContain(undefined)
    expect(ours.compatibility_flags).not.toContain('nodejs_compat')
  })

  it('is refused with its name when it is not one', async () => {
    await expect(readWrangler(join(ROOT, 'package.json'))).rejects.toThrow(/package\.json cannot be used/)
    await expect(readWrangler(join(ROOT, '.oxlintrc.json'))).rejects.toThrow(/oxlintrc\.json cannot be used/)
  })

  it.each([
    ['*/15 * * * *', 15],
    ['* * * * *', 1],
    ['0 3 * * *', undefined],
    ['*/0 * * * *', undefined],
    ['*/60 * * * *', undefined],
  ])('%s is every %s minutes', (cron, minutes) => {
    expect(cronMinutes(cron)).toBe(minutes)
  })
})
