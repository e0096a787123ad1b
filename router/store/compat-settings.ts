/** How the dialects of older servers are answered, as it was set for the whole router. */
import { CompatSettings, DEFAULT_COMPAT } from '../../shared/compat-settings.ts'
import type { Db } from '../ports.ts'
import { readSetting, writeSetting } from './settings.ts'

const NAME = 'compat'

/** The defaults where nothing was set, or by a router that knew more than this one. */
export async function readCompat(db: Db): Promise<CompatSettings> {
  const read = CompatSettings.safeParse((await readSetting(db, NAME)) ?? {})
  return read.success ? read.data : DEFAULT_COMPAT
}

export async function writeCompat(db: Db, value: CompatSettings, now: number): Promise<void> {
  await writeSetting(db, NAME, value, now)
}
