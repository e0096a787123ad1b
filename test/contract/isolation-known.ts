/** What the isolation test knows of operations: what they take besides ids, and which of them are unlike the others. */

/** What an operation takes besides ids, so that it gets as far as looking for them. */
export const BODIES: Record<string, object> = {
  'patch /admin/v1/providers/{id}': { weight: 2 },
  'patch /admin/v1/tenants/{id}': { name: 'Ours' },
  'patch /admin/v1/issuers/{id}': { enabled: false },
  'post /v1/batches': { items: [{ prompt: 'x', queue_timeout_s: 0 }] },
  'post /v1/runs': { prompt: 'x', queue_timeout_s: 0 },
  'post /ask': { prompt: 'x' },
  'post /chat': { prompt: 'x', cwd: '/work' },
  'post /api/claude': { prompt: 'x' },
  'put /config/agents/{name}': { content: 'ours' },
  'put /config/skills/{name}': { content: 'ours' },
  'put /config/rules/{name}': { content: 'ours' },
  'put /config/claude-md': { content: 'ours' },
  'put /v1/config/{id}': { content: 'ours' },
  'post /v1/sessions': { title: 'Ours' },
  'patch /v1/sessions/{id}': { title: 'Ours' },
  'patch /v1/runs/{id}': { priority: 3 },
  'post /api/messages': { prompt: 'x' },
  'post /api/async/messages': { prompt: 'x' },
  'post /api/messages/batches': { prompts: ['x'] },
  'post /api/claude/batch': { prompts: ['x'] },
  'post /api/sessions': { project_path: '/ours' },
  'patch /api/sessions/{id}/status': { status: 'active' },
  'post /api/sessions/{id}/continue': { prompt: 'x' },
  'post /api/sessions/{id}/continue/stream': { prompt: 'x' },
  'post /api/tasks/async': { prompt: 'x' },
  'patch /api/tasks/{id}/priority': { priority: 3 },
  'post /admin/v1/config/reload': {},
  'post /admin/v1/enrolment-tokens': {},
  'put /admin/v1/compat': {},
  'put /admin/v1/retention': {},
  'put /admin/v1/limits': { concurrent_runs: 1 },
  'put /admin/v1/routing': { failover: false },
  'post /admin/v1/webhooks': { url: 'https://ours.example/' },
  'patch /admin/v1/webhooks/{id}': { enabled: false },
  'put /admin/v1/webhook-settings': {},
  'post /admin/v1/providers': { id: 'ours', base_url: 'https://ours.example', api_key: 'sk-ours-0123456789' },
  'post /admin/v1/tenants': { id: 'theirs' },
  'post /admin/v1/tokens': { kind: 'app' },
  'post /admin/v1/tokens/revoke': { all: true },
  'post /admin/v1/issuers': {
    id: 'ours',
    url: 'https://ours.example',
    audience: 'ours',
    mapping: { require: [{ claim: 'a', is: 'b' }] },
  },
  'post /admin/v1/credentials': { kind: 'key', secret: 'ours-0123456789', subject: 'ours' },
}
/** For everybody, and answered without looking at whose it is. */
export const OF_THE_ROUTER = new Set(['/admin/v1/compat', '/admin/v1/retention', '/admin/v1/webhook-settings', '/admin/v1/keys', '/admin/v1/keys/master', '/admin/v1/keys/rotate', '/admin/v1/keys/{kid}', '/admin/v1/config/reload'])
/** For a scope that an app does not have unless it is given. */
export const WANTS_MORE = /^(?:(?:put|delete) (?:\/v1)?\/config\/|post \/api\/load-balance\/)/
/** They make what they name, each in a tenant of its own. */
export const MAKES = /^put (?:\/v1)?\/config\//
/** Where a dialect has another status for what is not there than 404. */
export const MISSING: Record<string, number> = { 'post /api/sessions/{id}/continue': 500, 'delete /api/tasks/{id}': 400 }
