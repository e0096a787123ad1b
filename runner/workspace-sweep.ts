/**
 * Cleans away what sessions have left that no run has used for a while: the folders that were made for them, and their
 * transcripts in the CLI's config directories.
 *
 * Decides by age and by what live runs use. A folder is only taken for a session's when there is a transcript of that
 * session here: a root may have folders of its owner, of another runner or under a name, and those are left alone. Tools
 * can write into all of it, so nothing is reached through a link, and nothing here is proof of anything but its own age.
 */
import { randomUUID } from 'node:crypto'
import { renameSync, unlinkSync } from 'node:fs'
import { lstat, rmdir } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { SessionId } from '../shared/ids.ts'
import { removeTree, within, type HeldFolder } from './held-folder.ts'
import type { InUse } from './in-use.ts'

export interface SweepOptions {
  /** Real paths. */
  readonly roots: readonly string[]
  /** The config directories of the tenants. */
  readonly configRoot: string
  /** 0: nothing is ever old. */
  readonly days: number
  readonly inUse: InUse
  readonly signal?: AbortSignal
  log(message: string, fields: Record<string, unknown>): void
}

export type Swept = { folders: number; transcripts: number }

const DAY_MS = 86_400_000
const HOUR_MS = 3_600_000
const TRANSCRIPT = '.jsonl'
const UUIDS = /[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/g
/** What a folder is called from the moment it is given up until it is gone. */
const REMOVED = '.runyard-removed-'
/** What else the CLI keeps by the id of a session, beside its transcripts. */
const BESIDE = ['session-env', 'file-history', 'todos']

/** The transcripts of one working directory, in one tenant's config directory. */
type Project = { tenant: string; slug: string; sessions: string[]; usedAt: number }
type SessionFolder = { path: string; session: string; usedAt: number; projects: Project[] }

/** Once. What cannot be removed is told of and left for the next time. */
export async function sweepSessions(options: SweepOptions, now: number): Promise<Swept> {
  const swept: Swept = { folders: 0, transcripts: 0 }
  if (options.days === 0) return swept
  const { roots, inUse } = options
  const before = now - options.days * DAY_MS
  const over = () => options.signal?.aborted === true
  const trying = async (what: string, work: () => Promise<void>) => {
    await work().catch((error: unknown) => options.log('what a session has left could not be removed', { what, err: error }))
  }
  for (const root of roots) await trying(root, () => removeGivenUp(root))
  const projects = await projectsIn(options.configRoot)
  const folders = await sessionFolders(roots, projects)
  for (const folder of folders) {
    if (over()) return swept
    const ids = folder.projects.flatMap(({ sessions }) => sessions)
    // Asked and given up in one go: a run that begins now finds no folder, and says that its session is gone.
    if (folder.usedAt >= before || inUse.hasIn(folder.path) || ids.some((id) => inUse.has(id))) continue
    await trying(folder.path, async () => {
      const removed = giveUp(folder)
      swept.folders++
      for (const project of folder.projects) swept.transcripts += await removeTranscripts(options, project)
      await removeTree(removed)
    })
  }
  const ofFolders = new Set(folders.flatMap((folder) => folder.projects))
  for (const project of projects.filter((one) => !ofFolders.has(one))) {
    if (over()) return swept
    await trying(project.slug, async () => {
      swept.transcripts += await removeTranscripts(options, project, before)
    })
  }
  if (swept.folders + swept.transcripts > 0) options.log('sessions without a run for a long time were cleaned away', { ...swept, days: options.days })
  return swept
}

/** Now and each hour, until `close`. */
export function keepSwept(options: Omit<SweepOptions, 'signal'>, now: () => number): { close(): Promise<void> } {
  const stop = new AbortController()
  let sweeping: Promise<unknown> | undefined
  const sweep = () => {
    sweeping ??= sweepSessions({ ...options, signal: stop.signal }, now())
      .catch((error: unknown) => options.log('sessions could not be cleaned away', { err: error }))
      .finally(() => (sweeping = undefined))
  }
  sweep()
  const timer = setInterval(sweep, HOUR_MS)
  timer.unref()
  return {
    async close() {
      clearInterval(timer)
      stop.abort()
      await sweeping
    },
  }
}

/** What a sweep before this one had no time for. */
async function removeGivenUp(root: string): Promise<void> {
  await within(root, async (folder) => {
    for (const name of await folder.names()) if (name.toString().startsWith(REMOVED)) await removeTree(folder.at(name))
  })
}

function giveUp({ path, session }: SessionFolder): string {
  const removed = join(dirname(path), `${REMOVED}${session}-${randomUUID()}`)
  renameSync(path, removed)
  return removed
}

async function projectsIn(configRoot: string): Promise<Project[]> {
  const projects: Project[] = []
  await eachFolder(configRoot, async (tenant, config) => {
    await eachFolder(config.at('projects'), async (slug, folder) => {
      const files = (await folder.names()).map(String).filter((name) => name.endsWith(TRANSCRIPT))
      const times = await Promise.all(files.map((name) => lstat(folder.at(name)).then(({ mtimeMs }) => mtimeMs, () => 0)))
      const sessions = files.map((name) => name.slice(0, -TRANSCRIPT.length)).filter((id) => SessionId.safeParse(id).success)
      projects.push({ tenant, slug, sessions, usedAt: times.reduce((newest, at) => Math.max(newest, at), 0) })
    })
  })
  return projects
}

/**
 * Those that were made for a session which has worked in one. Forks go on in the folder of what they were forked from, and
 * others may work below it, so it is as old as the newest transcript of any working directory with its name in it.
 */
async function sessionFolders(roots: readonly string[], projects: readonly Project[]): Promise<SessionFolder[]> {
  const found = new Map<string, SessionFolder>()
  const newest = newestUse(projects)
  for (const project of projects) {
    for (const session of project.sessions) {
      for (const path of roots.map((root) => join(root, session))) {
        const stats = await lstat(path).catch(() => undefined)
        if (!stats?.isDirectory()) continue
        const usedAt = Math.max(stats.mtimeMs, newest.get(session) ?? 0)
        const folder = found.get(path) ?? { path, session, usedAt, projects: [] }
        found.set(path, { ...folder, projects: [...folder.projects, project] })
      }
    }
  }
  return [...found.values()]
}

/** By the ids of sessions that have a transcript there, and by those in the name, which is the path with dashes for all but letters and digits. */
function newestUse(projects: readonly Project[]): Map<string, number> {
  const newest = new Map<string, number>()
  for (const { slug, sessions, usedAt } of projects) {
    for (const id of [...sessions, ...(slug.match(UUIDS) ?? [])]) newest.set(id, Math.max(newest.get(id) ?? 0, usedAt))
  }
  return newest
}

/** Those of one working directory that were last written before `before`, or all that there is of it. Returns how many. */
async function removeTranscripts({ configRoot, inUse }: SweepOptions, { tenant, slug }: Project, before = Infinity): Promise<number> {
  let removed = 0
  let kept = 0
  await throughConfig(configRoot, tenant, async (config, projects) => {
    await within(projects.at(slug), async (folder) => {
      for (const name of (await folder.names()).map(String).filter((one) => one.endsWith(TRANSCRIPT))) {
        const session = name.slice(0, -TRANSCRIPT.length)
        const stats = await lstat(folder.at(name)).catch(() => undefined)
        if (!stats || stats.isDirectory() || stats.mtimeMs >= before || inUse.has(session)) {
          kept++
          continue
        }
        unlinkSync(folder.at(name))
        removed++
        // What else has this name; a name that is no id could be a way to somewhere.
        if (!SessionId.safeParse(session).success) continue
        await removeTree(folder.at(session))
        for (const beside of BESIDE) await within(config.at(beside), (place) => removeTree(place.at(session)))
      }
    })
    if (before === Infinity && kept === 0) await removeTree(projects.at(slug))
    // With what the CLI remembers of an owner's folder in it, it stays.
    else await rmdir(projects.at(slug)).catch(() => undefined)
  })
  return removed
}

async function throughConfig(configRoot: string, tenant: string, work: (config: HeldFolder, projects: HeldFolder) => Promise<void>): Promise<void> {
  await within(configRoot, (root) =>
    within(root.at(tenant), (config) => within(config.at('projects'), (projects) => work(config, projects))),
  )
}

async function eachFolder(path: string | Buffer, work: (name: string, folder: HeldFolder) => Promise<void>): Promise<void> {
  await within(path, async (parent) => {
    for (const name of await parent.names()) await within(parent.at(name), (folder) => work(name.toString(), folder))
  })
}
