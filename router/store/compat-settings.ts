/** How the dialects of older servers are answered, as it was set for the whole router. */
import { CompatSettings, DEFAULT_COMPAT } from '../../shared/compat-settings.ts'
import type { Db, Statement } from '../ports.ts'
import { readSetting, settingStatement } from './settings.ts'

const NAME = 'compat'

/** The defaults where nothing was set, or by a router that knew more than this one. */
export async function readCompat(db: Db): Promise<CompatSettings> {
  const read = CompatSettings.safeParse((await readSetting(db, NAME)) ?? {})
  return read.success ? read.data : DEFAULT_COMPAT
}

/** For the batch of the change. */
export function compatStatement(db: Db, value: CompatSettings, now: number): Statement {
  return settingStatement(db, NAME, value, now)
}
