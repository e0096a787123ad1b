/**
 * The contract of a host: black box over HTTP and the runners' WebSocket. A host is whatever passes it; what one cannot do
 * is an option by name in kit/host.ts.
 */
import { describe } from 'vitest'
import { admin } from './contract/admin.ts'
import { claudeCodeServer } from './contract/compat-claude-code-server.ts'
import { compatClaudeCodeApi } from './contract/compat-claude-code-api.ts'
import { compatClaudecode2api } from './contract/compat-claudecode2api.ts'
import { compatCcs } from './contract/compat-ccs.ts'
import { batches } from './contract/batches.ts'
import { configFiles } from './contract/config-files.ts'
import { disconnect, impatience } from './contract/disconnect.ts'
import { eviction } from './contract/eviction.ts'
import { idempotency } from './contract/idempotency.ts'
import { identity } from './contract/identity.ts'
import { limits } from './contract/limits.ts'
import { isolation } from './contract/isolation.ts'
import { links } from './contract/links.ts'
import { oddRequests } from './contract/odd-requests.ts'
import { openApi } from './contract/openapi.ts'
import { offers } from './contract/offers.ts'
import { policies } from './contract/policy.ts'
import { protocol } from './contract/protocol.ts'
import { providers } from './contract/providers.ts'
import { queue } from './contract/queue.ts'
import { queueTurns } from './contract/queue-turns.ts'
import { restarts } from './contract/restarts.ts'
import { retention } from './contract/retention.ts'
import { sessionResources } from './contract/session-resources.ts'
import { sessions } from './contract/sessions.ts'
import { spine } from './contract/spine.ts'
import { tokens } from './contract/tokens.ts'
import { webhooks } from './contract/webhooks.ts'
import { usage } from './contract/usage.ts'
import type { Host } from './kit/host.ts'

/**
 * Rows of sections that have hosts of their own and go on beside each other: much of what a host promises is that it waits.
 * Within a row everything is one after the other, so that a section may count what it sees.
 */
const ROWS = {
  callers: [openApi, identity, tokens, spine, queue, queueTurns, idempotency, disconnect, impatience, limits, admin, isolation, oddRequests, batches, usage],
  runners: [protocol, offers, policies, providers, sessions, sessionResources, configFiles, compatClaudeCodeApi, compatCcs, compatClaudecode2api, claudeCodeServer],
  hosts: [links, restarts, eviction, retention, webhooks],
}

export function contract(host: Host): void {
  describe(`the contract on ${host.name}`, () => {
    for (const [row, sections] of Object.entries(ROWS)) {
      describe.concurrent(`for ${row}`, () => {
        describe.sequential('one after the other', () => {
          for (const section of sections) section(host)
        })
      })
    }
  })
}
