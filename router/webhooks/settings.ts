/** How webhooks are sent, as an operator has set it for the whole router. */
import { z } from 'zod'
import type { Db, Statement } from '../ports.ts'
import { readSetting, settingStatement } from '../store/settings.ts'

export const WebhookSettings = z.strictObject({
  allow_private: z.boolean().default(false).describe('Addresses of this machine and of private networks may be called.'),
  timeout_s: z.int().min(1).max(60).default(10).describe('A receiver has so long to answer.'),
})
export type WebhookSettings = z.infer<typeof WebhookSettings>

const NAME = 'webhooks'

/** The defaults where nothing was set, or by a router that knew more than this one. */
export async function readWebhookSettings(db: Db): Promise<WebhookSettings> {
  const read = WebhookSettings.safeParse((await readSetting(db, NAME)) ?? {})
  return read.success ? read.data : WebhookSettings.parse({})
}

export const webhookSettingsChange = (db: Db, value: WebhookSettings, now: number): Statement => settingStatement(db, NAME, value, now)
