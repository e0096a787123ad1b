import { Webhook } from 'standardwebhooks'
import { describe, expect, it } from 'vitest'
import { newKeyRing, openVault, withNewKey } from '../guard/vault.ts'
import type { WebhookRow } from '../store/webhooks.ts'
import { newSecret, openSecrets, sealSecret } from './secret.ts'
import { headersOf } from './sign.ts'

const place = { tenant: 'acme', id: 'whk_1' }
const row = (sealed: Pick<WebhookRow, 'sealedSecret' | 'sealedBy'>): WebhookRow => ({
  ...place, ...sealed, url: 'https://example.com/', events: null, format: 'standard', enabled: true, createdAt: 0, updatedAt: 0,
})
const message = { id: 'msg_1', format: 'standard', body: '{"type":"run.succeeded","text":"ü 💥"}' } as const

describe('a signed message', () => {
  it('is verified by the library of Standard Webhooks with the secret that it was signed with, and with no other', () => {
    const secret = newSecret()
    const headers = headersOf(message, [secret], Date.now())
    expect(new Webhook(secret).verify(message.body, headers)).toEqual(JSON.parse(message.body))
    expect(() => new Webhook(newSecret()).verify(message.body, headers)).toThrow(/signature/)
    expect(() => new Webhook(secret).verify(`${message.body} `, headers)).toThrow(/signature/)
    expect(() => new Webhook(secret).verify(message.body, { ...headers, 'webhook-id': 'msg_2' })).toThrow(/signature/)
    expect(() => new Webhook(secret).verify(message.body, headersOf(message, [secret], Date.now() - 301_000))).toThrow(/old/)
  })

  it('names its agent as the dialect that the receiver speaks does', () => {
    expect(headersOf(message, [], 0)['user-agent']).toMatch(/^Runyard\/\d/)
    expect(headersOf({ ...message, format: 'ccs' }, [], 0)['user-agent']).toBe('Claude-API-Server/1.0')
  })
})

describe('a secret', () => {
  it('is 32 random bytes in the form of Standard Webhooks', () => {
    expect(newSecret()).toMatch(/^whsec_[A-Za-z0-9+/]{43}=$/)
    expect(newSecret()).not.toBe(newSecret())
  })

  it('signs along with its successor for a day, so that either verifies', async () => {
    const vault = await openVault(newKeyRing('a'))
    const [old, fresh] = [newSecret(), newSecret()]
    const before = row(await sealSecret(vault, place, old))
    const after = row(await sealSecret(vault, place, fresh, before, 1_000))
    expect(await openSecrets(vault, before, 1_000)).toEqual([old])
    expect(await openSecrets(vault, after, 1_000)).toEqual([fresh, old])
    expect(await openSecrets(vault, after, 1_000 + 86_400_000)).toEqual([fresh])
    const headers = headersOf(message, [fresh, old], Date.now())
    for (const secret of [old, fresh]) expect(() => new Webhook(secret).verify(message.body, headers)).not.toThrow()
  })

  it('opens for its own webhook only, and after the master key was changed', async () => {
    const ring = newKeyRing('a')
    const sealed = row(await sealSecret(await openVault(ring), place, newSecret()))
    const turned = await openVault(withNewKey(ring, 'b'))
    expect(await openSecrets(turned, sealed, 0)).toHaveLength(1)
    await expect(openSecrets(turned, { ...sealed, id: 'whk_2' }, 0)).rejects.toThrow(/something else/)
    await expect(openSecrets(turned, { ...sealed, tenant: 'other' }, 0)).rejects.toThrow(/something else/)
  })
})
