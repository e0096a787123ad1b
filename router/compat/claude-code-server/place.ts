/**
 * Where a run of claude-code-server goes: the folder that it names or, with `resume`, the one of its session.
 *
 * A session knows its folder by the real path, and clients by the name that it had in the workspace, so the first run keeps
 * that name.
 */
import { and, eq } from 'drizzle-orm'
import type { Context } from 'hono'
import { runs } from '../../../drizzle/schema.ts'
import { Fault } from '../../../shared/faults.ts'
import type { AppEnv, Db } from '../../ports.ts'
import { ofTenant } from '../../store/session-pages.ts'
import { findSession } from '../../store/sessions.ts'
import { insideWorkspace, isHome, WORKSPACE } from './cwd.ts'
import type { Ask } from './schemas.ts'

/** Where the metadata of a first run has the name of its folder. */
const CWD = 'claude_code_server_cwd'

export interface Place {
  /** Undefined: where its session is. */
  readonly cwd: string | undefined
  readonly metadata?: Record<string, string>
  readonly runner?: string | null
}

/** A session stays where it was begun; its directory may be named again. Throws `cwd` and `session_not_found`. */
export async function placeOf(c: Context<AppEnv>, { cwd, resume }: Pick<Ask, 'cwd' | 'resume'>): Promise<Place> {
  const { db } = c.get('deps').store
  const { tenant } = c.get('principal')
  const name = cwd === undefined ? undefined : insideWorkspace(cwd)
  if (resume === undefined) return { cwd: name ?? WORKSPACE, metadata: { [CWD]: name ?? WORKSPACE } }
  const session = await findSession(db, tenant, resume)
  if (!session) throw new Fault('session_not_found', `no session ${resume}`)
  const isThere = name === undefined || isHome(name, { real: session.cwd, name: await begunIn(db, tenant, session.id) })
  return { cwd: isThere ? undefined : name, runner: session.runner }
}

/** Undefined: it was begun by somebody else, or that is not kept any more. */
async function begunIn(db: Db, tenant: string, session: string): Promise<string | undefined> {
  const its = and(eq(runs.session, session), ofTenant(tenant))
  const [first] = await db.select({ metadata: runs.metadata }).from(runs).where(its).orderBy(runs.id).limit(1)
  return first?.metadata?.[CWD]
}
