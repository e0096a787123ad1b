/**
 * The config file of a router while it runs: applied at the start and whenever its content changes, and again after trouble
 * that may pass until it is. Between two changes of the file what the admin API does stays, over restarts too.
 */
import { stat } from 'node:fs/promises'
import { z } from 'zod'
import { applyConfig, ConfigError, type ConfigReport } from '../admin/apply-config.ts'
import { asFault } from '../guard/problem.ts'
import type { ConfigSource, Deps } from '../ports.ts'
import { readSetting, writeSetting } from '../store/settings.ts'
import { readConfig } from './config-file.ts'

/** An editor may write a file in several goes: it is read once it has been the same for so long. */
const LOOK_MS = 500
/** After trouble of the database, and twice as long each time after that. */
const [RETRY_MS, MAX_RETRY_MS] = [1_000, 30_000]
const SETTING = 'config-file'
const Applied = z.object({ hash: z.string() })

export interface WatchedConfig extends ConfigSource {
  /** Applies the file and begins to watch it. Throws a `ConfigError` for one that is wrong: nobody should start on it unseen. */
  start(): Promise<void>
  close(): Promise<void>
}

export interface ConfigOptions {
  readonly file: string
  /** Somebody named it, so that it has to be there. */
  readonly required: boolean
  readonly deps: () => Deps
  readonly env: NodeJS.ProcessEnv
}

export function watchConfig({ file, required, deps, env }: ConfigOptions): WatchedConfig {
  let files: readonly string[] = [file]
  let seen = ''
  let settling = ''
  let watch: NodeJS.Timeout | undefined
  let looking = false
  let retry: { readonly at: number; readonly waitMs: number } | undefined
  let last: Promise<unknown> = Promise.resolve()

  async function load(force: boolean): Promise<ConfigReport & { changed: boolean }> {
    const { store, vault, platform, log } = deps()
    const own = await fingerprint([file])
    const { config, keyOf, content } = await readConfig(file, env, async (named) => {
      files = named
      // Before any of them is read: what changes while it is being read is seen as a change.
      seen = settling = own + (await fingerprint(named.slice(1)))
    })
    const hash = await vault.hash(`config:${content}`)
    const before = Applied.safeParse(await readSetting(store.db, SETTING))
    if (!force && before.data?.hash === hash) return { changed: false, changes: [], warnings: [] }
    const report = await applyConfig(deps(), config, keyOf)
    await writeSetting(store.db, SETTING, { hash }, platform.now())
    log.info({ file, changes: report.changes }, 'the config file was applied')
    for (const warning of report.warnings) log.warn({ file }, warning)
    return { changed: true, ...report }
  }
  /** One after the other, as each begins with what the one before has written. */
  const reload = (force = false) => {
    const mine = last.then(() => load(force))
    last = mine.then(
      () => (retry = undefined),
      (error: unknown) => {
        const waitMs = Math.min(MAX_RETRY_MS, (retry?.waitMs ?? RETRY_MS / 2) * 2)
        retry = mayPass(error) ? { at: performance.now() + waitMs, waitMs } : undefined
      },
    )
    return mine
  }

  async function look(): Promise<void> {
    const now = await fingerprint(files)
    const settled = now === settling
    settling = now
    const isDue = retry !== undefined && performance.now() >= retry.at
    if (!settled || (now === seen && !isDue)) return
    seen = now
    await reload().catch((error: unknown) => {
      const known = error instanceof ConfigError
      deps().log.error(
        known ? { file } : { file, err: error },
        known ? `${error.message}; what was set before stays` : 'the config file could not be applied',
      )
    })
  }

  return {
    file,
    reload,
    async start() {
      // Before it is read: what changes while it is being read is seen as a change.
      seen = settling = await fingerprint(files)
      if (required || seen !== ABSENT) await reload()
      watch = setInterval(() => {
        if (looking) return
        looking = true
        deps().platform.background(look().finally(() => (looking = false)))
      }, LOOK_MS)
      watch.unref()
    },
    async close() {
      clearInterval(watch)
      await last
    },
  }
}

/** Nobody has to put anything right in the file. */
function mayPass(error: unknown): boolean {
  const { code } = asFault(error)
  return !(error instanceof ConfigError) || code === 'storage' || code === 'conflict'
}

const ABSENT = '-;'

/** Changes with any of the files; reading all of them twice a second would be a waste. */
async function fingerprint(files: readonly string[]): Promise<string> {
  const parts = await Promise.all(
    files.map((file) =>
      stat(file).then(
        ({ mtimeMs, size, ino, mode }) => `${mtimeMs}/${size}/${ino}/${mode};`,
        () => ABSENT,
      ),
    ),
  )
  return parts.join('')
}
