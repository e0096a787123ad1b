import { describe, expect, it } from 'vitest'
import { hidingValues, holdsValues, mcpServersFor, missingVariables, type McpServers } from './mcp-servers.ts'
import { parsePolicy, shown, viewOf } from './policy.ts'

const policy = parsePolicy(
  `
  [mcp_servers.tickets]
  command = "/opt/mcp/tickets"
  args = ["--read-only"]
  env = { TOKEN = "\${TICKETS}", MODE = "x" }
  reads = ["/home/me/mcp"]
  [mcp_servers.search]
  url = "https://mcp.example.com/u/\${SEARCH_USER}"
  headers = { Authorization = "Bearer \${SEARCH_KEY}" }
  [mcp_servers.plain]
  command = "plain"
  `,
  'runner.toml',
)
const servers: McpServers = policy.mcp_servers
const env = { TICKETS: 't-secret', SEARCH_USER: 'me', SEARCH_KEY: 's-secret' }

describe('the MCP servers of an owner', () => {
  it('reach the CLI of a run that names them, with the variables of the runner', () => {
    expect(mcpServersFor(servers, ['search', 'tickets', 'search'], env)).toEqual({
      entries: {
        tickets: { type: 'stdio', command: '/opt/mcp/tickets', args: ['--read-only'], env: { TOKEN: 't-secret', MODE: 'x' } },
        search: { type: 'http', url: 'https://mcp.example.com/u/me', headers: { Authorization: 'Bearer s-secret' } },
      },
      reads: ['/opt/mcp/tickets', '/home/me/mcp'],
    })
    expect(mcpServersFor(servers, ['plain'], {})).toEqual({ entries: { plain: { type: 'stdio', command: 'plain', args: [], env: {} } }, reads: [] })
    expect(mcpServersFor(servers, [], {})).toEqual({ entries: {}, reads: [] })
  })

  it('are missed by the variable that they want', () => {
    expect(missingVariables(servers, { TICKETS: '' })).toEqual([
      { server: 'search', variable: 'SEARCH_USER' },
      { server: 'search', variable: 'SEARCH_KEY' },
    ])
    expect(() => mcpServersFor(servers, ['tickets'], {})).toThrow('mcp_servers: tickets needs the variable TICKETS')
  })

  it('are told to the router by name only', () => {
    expect(viewOf(policy).mcp_servers).toEqual(['tickets', 'search', 'plain'])
    expect(JSON.stringify(viewOf(policy))).not.toContain('/opt/mcp')
  })

  it('are shown without what may be a secret, in a way that reads like a file', () => {
    const hidden = shown(policy).mcp_servers
    expect(hidden['tickets']).toMatchObject({ command: '/opt/mcp/tickets', env: { TOKEN: '${TICKETS}', MODE: '…' } })
    expect(hidden['search']).toMatchObject({ url: 'https://mcp.example.com/…', headers: { Authorization: '…' } })
    for (const [url, text] of [
      ['https://key@host.example/', 'https://…'],
      ['http://host.example', 'http://host.example'],
      ['https://host.example?key=1', 'https://host.example/…'],
    ] as const) {
      expect(hidingValues({ a: { type: 'http', url, headers: {} } })['a']).toMatchObject({ url: text })
    }
  })

  it('ask for a private file when a value is written out', () => {
    expect(holdsValues(servers)).toBe(true)
    expect(holdsValues({ plain: servers['plain']!, one: { command: 'x', args: [], reads: [], env: { A: '${B}' } } })).toBe(false)
  })
})
