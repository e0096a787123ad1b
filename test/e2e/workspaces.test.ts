/** Where runs work, what they leave and what they are given on the owner's word: the built product and the real CLI. */
import { copyFile, mkdir, readdir, readFile, stat, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { detect } from '../../runner/sandbox.ts'
import { enlist, type Enlisted } from '../kit/enlist.ts'
import { CLAUDE, newMachine, type Command, type Machine } from '../kit/processes.ts'
import { readSse, type Stream } from '../kit/sse.ts'
import { until } from '../kit/wait.ts'
import { startModel, text, toolUse, type Model } from '../model/scripted.ts'

type Json = Record<string, unknown>

const TINY = fileURLToPath(new URL('../fixtures/mcp/tiny.mjs', import.meta.url))
const DAY_MS = 86_400_000
const noBwrap = await detect('bwrap', { env: process.env, claude: CLAUDE }).then(
  () => '',
  (error: unknown) => ` (left out: ${error instanceof Error ? error.message : 'it does not work'})`,
)

describe.each(['none', 'bwrap'] as const)('a run whose sandbox is %s', (sandbox) => {
  describe.skipIf(sandbox === 'bwrap' && noBwrap !== '')(`where it works${sandbox === 'bwrap' ? noBwrap : ''}`, () => {
    let machine: Machine
    let model: Model
    let fleet: Enlisted
    let runner: Command
    const start = async () => {
      runner = fleet.startRunner([`--sandbox=${sandbox}`, `--workspace=${machine.workspace}`], { TINY_SECRET: 'plum jam' })
      await fleet.online(runner)
    }
    beforeAll(async () => {
      machine = await newMachine()
      model = await startModel()
      fleet = await enlist(machine, model)
      const tools = join(machine.home, 'tools')
      await mkdir(tools)
      await copyFile(TINY, join(tools, 'tiny.mjs'))
      const server = { command: process.execPath, args: [join(tools, 'tiny.mjs')], reads: [tools] }
      await writeFile(
        fleet.policyFile,
        `[mcp_servers.tiny]\n${Object.entries(server)
          .map(([key, value]) => `${key} = ${JSON.stringify(value)}`)
          .join('\n')}\nenv = { SECRET = "\${TINY_SECRET}" }\n`,
      )
      await start()
    })
    afterAll(async () => {
      await machine.close()
      await model.close()
    })

    const stream = async (body: Json) => readSse(await fleet.start(body))
    const lines = (s: Stream) => s.events.filter((e) => e.event === 'message').map((e) => JSON.parse(e.data) as Json)
    const done = (s: Stream) => JSON.parse(s.events.at(-1)!.data) as Json
    /** What tools said, one after another; the model calls these and then is done. */
    const calling = (...calls: ReturnType<typeof toolUse>[]) => {
      model.script(({ raw }) => calls[raw.split('"type":"tool_result"').length - 1] ?? text('done'))
    }

    it('calls a tool of an MCP server that the owner names, and has none without naming it', async () => {
      calling(toolUse('mcp__tiny__add', { a: 2, b: 3 }))
      const s = await stream({ prompt: 'Add.', mcp_servers: ['tiny'], allowed_tools: ['mcp__tiny'] })
      expect(done(s)).toMatchObject({ status: 'succeeded', num_turns: 2 })
      expect(lines(s).find((l) => l['subtype'] === 'init')).toMatchObject({ mcp_servers: [{ name: 'tiny', status: 'connected' }] })
      expect(lines(s).map((l) => JSON.stringify(l)).join()).toContain('sum 5, plum jam')
      expect(lines(await stream({ prompt: 'Add.' })).find((l) => l['subtype'] === 'init')).toMatchObject({ mcp_servers: [] })
      const refused = await fleet.start({ prompt: 'Add.', mcp_servers: ['tiny', 'other'] })
      expect(refused.status).toBe(403)
      expect(await refused.json()).toMatchObject({ code: 'policy', field: 'mcp_servers', detail: expect.stringContaining('"other" is no MCP server') })
    })

    it('shares a folder with all that name it, and goes on there', async () => {
      const folder = join(machine.workspace, 'named/default/site')
      calling(toolUse('Write', { file_path: join(folder, 'page.txt'), content: 'first' }))
      const first = done(await stream({ prompt: 'Write it.', workspace: 'site', permission_mode: 'acceptEdits' }))
      expect(first).toMatchObject({ status: 'succeeded' })
      expect(await readFile(join(folder, 'page.txt'), 'utf8')).toBe('first')
      expect((await stat(folder)).mode & 0o777).toBe(0o700)
      calling(toolUse('Read', { file_path: join(folder, 'page.txt') }))
      for (const use of [{ workspace: 'site' }, { session_id: first['session_id'] }]) {
        const s = await stream({ prompt: 'Read it.', ...use })
        expect(JSON.parse(s.events[0]!.data)).toMatchObject({ cwd: folder })
        expect(done(s)).toMatchObject({ status: 'succeeded' })
      }
    })

    it('works in its further folders, and in no other', async () => {
      const [more, other] = [join(machine.workspace, 'more, of it'), join(machine.workspace, 'other')]
      await Promise.all([more, other].map((dir) => mkdir(dir)))
      calling(...[more, other].map((dir) => toolUse('Write', { file_path: join(dir, 'f.txt'), content: 'x' })))
      const body = { prompt: 'Write.', permission_mode: 'acceptEdits', add_dirs: ['more, of it'] }
      expect(done(await stream(body))).toMatchObject({ status: 'succeeded' })
      expect([await readdir(more), await readdir(other)]).toEqual([['f.txt'], []])
      const refused = await fleet.start({ ...body, add_dirs: ['more, of it', machine.home] })
      expect(refused.status).toBe(400)
      expect(await refused.json()).toMatchObject({ code: 'cwd', detail: `add_dirs: ${JSON.stringify(machine.home)} is not a folder inside the workspace` })
    })

    it('keeps what fits into its log and the result of a run that says too much', async () => {
      const answer = 'many words '.repeat(60_000)
      model.script(() => text(answer, { chunks: 16_000 }))
      const s = await stream({ prompt: 'Say much.', include_partial_messages: true, max_log_bytes: 1_048_576 })
      const [result, gap, end] = s.events.slice(-3)
      expect(done(s)).toMatchObject({ status: 'succeeded', num_turns: 1 })
      expect(JSON.parse(result!.data)).toMatchObject({ type: 'result', total_cost_usd: expect.any(Number) })
      expect([gap!.event, end!.event]).toEqual(['gap', 'done'])
      const { bytes, reason } = JSON.parse(gap!.data) as { bytes: number; reason: string }
      expect(reason).toBe('log_cap')
      const kept = s.events.slice(1, -3).reduce((sum, event) => sum + Buffer.byteLength(event.data), 0)
      expect(kept).toBeLessThanOrEqual(1_048_576)
      expect(kept).toBeGreaterThan(900_000)
      expect(kept + bytes).toBeGreaterThan(5_000_000)
      expect(s.events.map((event) => Number(event.id))).toEqual(s.events.map((_, i) => i + 1))
      expect(await (await fleet.call(`/v1/runs/${String(done(s)['id'])}`)).json()).toMatchObject({ result: answer, cost_usd: done(s)['cost_usd'] })
    })

    it('is not found any more when it was cleaned away, and begins nothing anew', async () => {
      model.script(() => text('ok'))
      const [old, young] = [done(await stream({ prompt: 'One.' })), done(await stream({ prompt: 'Two.' }))].map((d) => String(d['session_id']))
      const projects = join(fleet.runnerDir, 'runner/config/default/projects')
      const transcripts = (await readdir(projects, { recursive: true })).filter((name) => name.endsWith(`${old}.jsonl`))
      expect(transcripts).toHaveLength(1)
      const before = new Date(Date.now() - 31 * DAY_MS)
      await runner.stop()
      for (const path of [join(machine.workspace, old!), join(projects, transcripts[0]!)]) await utimes(path, before, before)
      await start()
      await until('the old session to be gone', async () => !(await readdir(machine.workspace)).includes(old!))
      const gone = await fleet.start({ prompt: 'Again?', session_id: old })
      expect(gone.status).toBe(404)
      expect(await gone.json()).toMatchObject({ code: 'session_not_found', detail: `session ${old} is no longer on this runner: its folder is gone` })
      expect((await readdir(machine.workspace)).toSorted()).not.toContain(old)
      expect(done(await stream({ prompt: 'Again?', session_id: young }))).toMatchObject({ status: 'succeeded', session_id: young })
    })
  })
})

describe('the MCP servers in a policy', () => {
  it('keep a runner from starting without their variables, and their values to themselves', async () => {
    const machine = await newMachine()
    const model = await startModel()
    try {
      const fleet = await enlist(machine, model)
      await writeFile(fleet.policyFile, '[mcp_servers.far]\nurl = "https://mcp.example/u/path-secret"\nheaders = { A = "Bearer ${FAR_KEY}", B = "written-secret" }\n', { mode: 0o644 })
      const refused = await fleet.startRunner([`--workspace=${machine.workspace}`]).ended
      expect([refused.code, JSON.parse(refused.stdout)]).toMatchObject([
        78,
        { message: `${fleet.policyFile}: mcp_servers.far: this runner's environment has no variable FAR_KEY` },
      ])
      const runner = fleet.startRunner([`--workspace=${machine.workspace}`], { FAR_KEY: 'variable-secret' })
      await fleet.online(runner)
      expect(runner.stderr.join('\n')).toContain('can be read by others; chmod 600 it')
      await until('its status to be there', async () => (await readdir(join(fleet.runnerDir, 'runner'))).includes('status.json'))
      const status = await machine.runyard(['runner', 'status', '--json', `--data-dir=${fleet.runnerDir}`])
      expect(status.stdout).toContain('https://mcp.example/…')
      expect(status.stdout).not.toContain('has other values')
      const { data } = (await (await fleet.call('/v1/runners')).json()) as { data: { policy: Json }[] }
      expect(data[0]?.policy).toMatchObject({ mcp_servers: ['far'] })
      const written = [status.stdout, JSON.stringify(data), await readFile(join(fleet.runnerDir, 'runner/status.json'), 'utf8')].join()
      for (const secret of ['path-secret', 'written-secret', 'variable-secret']) expect(written).not.toContain(secret)
    } finally {
      await machine.close()
      await model.close()
    }
  })
})
