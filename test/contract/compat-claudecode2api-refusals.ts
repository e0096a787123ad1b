/** How the dialect of claudecode2api says no: every refusal that its clients can read, and those of what is not taken over. */
import { beforeEach, describe, expect, it } from 'vitest'
import { Fault } from '../../shared/faults.ts'
import type { RunSpec } from '../../shared/run-spec.ts'
import { admins, type Fleet, type Json } from '../kit/fleet.ts'
import type { Host } from '../kit/host.ts'
import { echo } from '../kit/turns.ts'
import { tenantEach } from './tenants.ts'

export function compatClaudecode2apiRefusals(host: Host): void {
  describe('claudecode2api says no', () => {
    const current = tenantEach(host)
    let fleet: Fleet
    beforeEach(() => void (fleet = current()))

    const chat = (body: unknown) => fleet.call('/chat', { method: 'POST', body: typeof body === 'string' ? body : JSON.stringify(body) })
    const answer = async (response: Response): Promise<[number, Json]> => [response.status, (await response.json()) as Json]
    /** The list of a 422. */
    async function mistakes(body: unknown): Promise<Json[]> {
      const [status, { detail }] = await answer(await chat(body))
      expect(status).toBe(422)
      return detail as Json[]
    }

    it('refuses a bypass that is asked for by name, where it may not be', async () => {
      const refused = async (body: object) => answer(await chat({ prompt: 'x', cwd: '/work', ...body }))
      expect(await refused({ permission_mode: 'bypassPermissions' })).toEqual([
        403,
        { detail: 'permission_mode: bypassPermissions needs the scope runs:bypass' },
      ])
      expect(await refused({ agents: { a: { permissionMode: 'bypassPermissions' } } })).toEqual([
        403,
        { detail: 'agents.a.permissionMode: bypassPermissions needs the scope runs:bypass' },
      ])
    })

    it('says what is wrong with a body as FastAPI does, all of it at once', async () => {
      expect(await mistakes({})).toEqual([
        { type: 'missing', loc: ['body', 'prompt'], msg: 'Field required', input: {} },
        { type: 'missing', loc: ['body', 'cwd'], msg: 'Field required', input: {} },
      ])
      const wrong = { prompt: 1, cwd: null, tools: 'Read', allowed_tools: ['Read', 2], fork_session: 'maybe', verbose: [], json_schema: [], debug: {} }
      expect(await mistakes(wrong)).toEqual([
        { type: 'string_type', loc: ['body', 'prompt'], msg: 'Input should be a valid string', input: 1 },
        { type: 'string_type', loc: ['body', 'cwd'], msg: 'Input should be a valid string', input: null },
        { type: 'bool_parsing', loc: ['body', 'fork_session'], msg: 'Input should be a valid boolean, unable to interpret input', input: 'maybe' },
        { type: 'list_type', loc: ['body', 'tools'], msg: 'Input should be a valid list', input: 'Read' },
        { type: 'string_type', loc: ['body', 'allowed_tools', 1], msg: 'Input should be a valid string', input: 2 },
        { type: 'string_type', loc: ['body', 'debug', 'str'], msg: 'Input should be a valid string', input: {} },
        { type: 'bool_type', loc: ['body', 'debug', 'bool'], msg: 'Input should be a valid boolean', input: {} },
        { type: 'bool_type', loc: ['body', 'verbose'], msg: 'Input should be a valid boolean', input: [] },
        { type: 'dict_type', loc: ['body', 'json_schema'], msg: 'Input should be a valid dictionary', input: [] },
      ])
      expect(await mistakes('{"prompt": ')).toMatchObject([{ type: 'json_invalid', loc: ['body', expect.any(Number)], msg: 'JSON decode error' }])
      expect(await mistakes([])).toMatchObject([{ type: 'model_attributes_type', loc: ['body'], input: [] }])
      const empty = await fleet.call('/chat', { method: 'POST' })
      expect(await answer(empty)).toEqual([422, { detail: [{ type: 'missing', loc: ['body'], msg: 'Field required', input: null }] }])
    })

    it('says which values there are, where a value is none of them', async () => {
      const body = { prompt: 'x', cwd: '/work' }
      expect(await mistakes({ ...body, permission_mode: 'yolo' })).toEqual([
        {
          type: 'enum',
          loc: ['body', 'permission_mode'],
          msg: "Input should be 'default', 'acceptEdits', 'plan', 'dontAsk', 'auto' or 'bypassPermissions'",
          input: 'yolo',
        },
      ])
      expect(await mistakes({ ...body, model: '--yes' })).toMatchObject([{ type: 'value_error', loc: ['body', 'model'], input: '--yes' }])
      expect(await mistakes({ ...body, allowed_tools: ['Read', '--yes'] })).toMatchObject([{ loc: ['body', 'allowed_tools', 1], input: '--yes' }])
      expect(await mistakes({ ...body, mcp_config: ['{"a":'] })).toMatchObject([{ loc: ['body', 'mcp_config', 0] }])
      const own = ['{"mcpServers":{"a":{}}}', '{"mcpServers":{"__proto__":{"command":"x"}}}']
      expect(await mistakes({ ...body, mcp_config: own })).toMatchObject([{ loc: ['body', 'mcp_config', 1], msg: expect.stringContaining('__proto__ is not the name') }])
      expect(await mistakes({ ...body, fork_session: true })).toMatchObject([{ loc: ['body', 'fork_session'] }])
      expect(await mistakes({ ...body, prompt: ' \n' })).toMatchObject([{ loc: ['body', 'prompt'], input: ' \n' }])
      expect(await mistakes({ ...body, on_disconnect: 'stay' })).toMatchObject([{ loc: ['body', 'on_disconnect'], input: 'stay' }])
    })

    it('refuses by its name what would run programs of the caller on the machine', async () => {
      for (const [field, value] of [['settings', '/etc/x.json'], ['plugin_dir', ['/tmp/p']], ['mcp_config', ['/tmp/mcp.json']]] as const) {
        const [status, { detail }] = await answer(await chat({ prompt: 'x', cwd: '/work', [field]: value }))
        expect([status, detail]).toEqual([400, expect.stringMatching(new RegExp(`^${field}: .*refused`))])
      }
    })

    it('says 401, 404, 405, 413 and 415 in its own words', async () => {
      const body = JSON.stringify({ prompt: 'x', cwd: '/work' })
      const ask = async (init: RequestInit & { token?: string | null }, path = '/chat') => {
        const response = await fleet.call(path, { method: 'POST', body, ...init })
        return [...(await answer(response)), response.headers.get('www-authenticate') ?? response.headers.get('allow')]
      }
      expect(await ask({ token: null })).toEqual([401, { detail: 'Not authenticated' }, 'Basic'])
      expect(await ask({ headers: { authorization: `Basic ${btoa('admin:wrong horse')}` } })).toEqual([401, { detail: 'Invalid credentials' }, 'Basic'])
      expect(await ask({ headers: { 'content-type': 'text/plain' } })).toMatchObject([415, { detail: expect.stringContaining('JSON') }, null])
      expect(await ask({ body: JSON.stringify({ prompt: 'x'.repeat(1024 * 1024) }) })).toMatchObject([413, { detail: expect.any(String) }, null])
      expect(await ask({ method: 'PUT' })).toEqual([405, { detail: 'Method Not Allowed' }, 'POST'])
      expect(await ask({}, '/chat/x/y')).toEqual([404, { detail: 'Not Found' }, null])
      const weak = await admins<{ token: string }>(fleet, 'tokens', { kind: 'app', subject: 'weak', scopes: ['runs:read'] })
      expect(await ask({ token: weak.token })).toMatchObject([403, { detail: 'the token lacks the scope runs:write' }, null])
    })

    it('names a directory that cannot be used, before the stream begins, by the name of its field', async () => {
      const notInside = ({ cwd, add_dirs: more }: RunSpec) => (more ? `add_dirs: "${more[0]}" is not a folder` : `"${cwd}" is not a folder inside the workspace`)
      await fleet.runner({ turn: echo, prepare: ({ spec }) => Promise.reject(new Fault('cwd', notInside(spec))) })
      expect(await answer(await chat({ prompt: 'x', cwd: '/work', add_dir: ['/nowhere'] }))).toEqual([400, { detail: 'add_dir: "/nowhere" is not a folder' }])
      expect(await answer(await chat({ prompt: 'x', cwd: '/nowhere' }))).toEqual([400, { detail: 'Directory does not exist: /nowhere' }])
      expect(await answer(await chat({ prompt: 'x', cwd: '' }))).toEqual([400, { detail: 'Directory does not exist: ' }])
    })
  })
}
