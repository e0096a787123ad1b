/** A webhook of somebody, and a message to it that is settled, so that what its owner sees of it stays as it is. */
import { admins, type Fleet, type Json } from '../kit/fleet.ts'
import { openReceiver } from '../kit/receiver.ts'
import { until } from '../kit/wait.ts'

export interface SettledWebhook {
  /** By the collection that each is in. */
  readonly ids: Readonly<Record<string, string>>
  close(): Promise<void>
}

export async function settledWebhook(operator: Fleet, owner: Fleet, path: string): Promise<SettledWebhook> {
  const receiver = await openReceiver()
  await operator.call('/admin/v1/webhook-settings', { method: 'PUT', token: operator.adminToken, body: JSON.stringify({ allow_private: true }) })
  const { id } = await admins<{ id: string }>(owner, 'webhooks', { url: receiver.url + path, events: ['session.deleted'] })
  await owner.call(`/admin/v1/webhooks/${id}/test`, { method: 'POST', token: owner.adminToken })
  const delivered = async () => (await (await owner.call('/admin/v1/webhook-deliveries?state=delivered', { token: owner.adminToken })).json()) as { data: Json[] }
  const message = await until('a webhook to be told', async () => (await delivered()).data[0])
  return { ids: { webhooks: id, 'webhook-deliveries': String(message['id']) }, close: () => receiver.close() }
}
