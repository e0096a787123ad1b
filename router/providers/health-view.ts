/** How a provider does, as the API shows it: its breaker, those of its models, and what was counted of it. */
import type { HealthRow } from '../store/provider-health.ts'

const iso = (ms: number | null) => (ms === null ? null : new Date(ms).toISOString())

/**
 * `rows`: those of one provider; none is a provider that was never asked. `open_until` is null for a breaker that is closed,
 * and for one that stays open until an admin acts.
 */
export function healthView(rows: readonly HealthRow[]) {
  const own = rows.find((r) => r.model === '')
  return {
    state: own?.state ?? 'closed',
    consecutive_failures: own?.failures ?? 0,
    open_until: iso(own?.openUntil ?? null),
    reason: own?.reason ?? null,
    requests: own?.requests ?? 0,
    failed: own?.failed ?? 0,
    latency_ms: own?.latencyMs === null || own === undefined ? null : Math.round(own.latencyMs),
    input_tokens: own?.inputTokens ?? 0,
    output_tokens: own?.outputTokens ?? 0,
    models: rows
      .filter((r) => r.model !== '' && r.state !== 'closed')
      .map(({ model, state, openUntil, reason }) => ({ model, state, open_until: iso(openUntil), reason })),
  }
}
