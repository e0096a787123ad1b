/**
 * Who is next: priority first, then a fair turn for each tenant, then age.
 *
 * Fair means that among equals the tenant with the fewest runs under way goes first, so that one who posts a thousand
 * does not hold up one who posts a single run. What is under way is the caller's count.
 */
export interface Waiting {
  readonly run: string
  readonly tenant: string
  /** 1 to 10, the highest first. */
  readonly priority: number
  readonly createdAt: number
}

export function queueOrder<W extends Waiting>(waiting: Iterable<W>, underWay: (tenant: string) => number): W[] {
  const byPriority = groupBy([...waiting], (w) => w.priority)
  const taken = new Map<string, number>()
  const order: W[] = []
  for (const priority of [...byPriority.keys()].toSorted((a, b) => b - a)) {
    const lines = [...groupBy(byPriority.get(priority) ?? [], (w) => w.tenant).values()].map((line) => line.toSorted(older))
    const heads = lines.map(() => 0)
    for (let left = lines.reduce((sum, line) => sum + line.length, 0); left > 0; left--) {
      let next = -1
      for (const [i, line] of lines.entries()) {
        const head = line[heads[i]!]
        if (!head) continue
        const best = next < 0 ? undefined : lines[next]![heads[next]!]
        if (!best || load(head) < load(best) || (load(head) === load(best) && older(head, best) < 0)) next = i
      }
      const chosen = lines[next]![heads[next]!]!
      heads[next]!++
      taken.set(chosen.tenant, (taken.get(chosen.tenant) ?? 0) + 1)
      order.push(chosen)
    }
  }
  return order

  function load(w: W): number {
    return underWay(w.tenant) + (taken.get(w.tenant) ?? 0)
  }
}

/** The place of each among those of its own tenant and pool, from 1: what others have in line is nobody's business. */
export function placesIn<W extends Waiting & { readonly pool: string }>(waiting: Iterable<W>): Map<string, number> {
  const lines = groupBy([...waiting], (w) => `${w.tenant} ${w.pool}`)
  const places = new Map<string, number>()
  for (const line of lines.values()) {
    for (const [i, w] of line.toSorted((a, b) => b.priority - a.priority || older(a, b)).entries()) places.set(w.run, i + 1)
  }
  return places
}

function older(a: Waiting, b: Waiting): number {
  return a.createdAt - b.createdAt || (a.run < b.run ? -1 : 1)
}

function groupBy<K, T>(items: readonly T[], keyOf: (item: T) => K): Map<K, T[]> {
  const groups = new Map<K, T[]>()
  for (const item of items) {
    const key = keyOf(item)
    const group = groups.get(key)
    if (group) group.push(item)
    else groups.set(key, [item])
  }
  return groups
}
