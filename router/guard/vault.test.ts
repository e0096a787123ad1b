import { describe, expect, it } from 'vitest'
import { newKeyRing, openVault, turning, withNewKey } from './vault.ts'

const SECRET = 'sk-ant-canary-0123456789'

describe('the vault', () => {
  it('opens what it sealed, for the same thing only', async () => {
    const vault = await openVault(newKeyRing('k1'))
    const sealed = await vault.seal('provider/acme/main/1', SECRET)
    expect(sealed).not.toContain(SECRET)
    expect(await vault.open('provider/acme/main/1', sealed)).toBe(SECRET)
    for (const other of ['provider/acme/main/2', 'provider/acme/other/1', 'provider/evil/main/1']) await expect(vault.open(other, sealed)).rejects.toThrow('something else')
  })

  it('opens with an old key of its ring, seals with the newest, and not without its key', async () => {
    const ring = newKeyRing('k1')
    const sealed = await (await openVault(ring)).seal('x', SECRET)
    const rotated = await openVault(withNewKey(ring, 'k2'))
    expect(rotated.kid).toBe('k2')
    expect(await rotated.open('x', sealed)).toBe(SECRET)
    const again = await rotated.seal('x', SECRET)
    await expect((await openVault(ring)).open('x', again)).rejects.toThrow('k2 is not here')
  })

  it('notices a changed byte', async () => {
    const vault = await openVault(newKeyRing('k1'))
    const [head, , iv, text, tag] = (await vault.seal('x', SECRET)).split('.')
    const flipped = `${text!.startsWith('A') ? 'B' : 'A'}${text!.slice(1)}`
    await expect(vault.open('x', `${head}..${iv}.${flipped}.${tag}`)).rejects.toThrow('decryption')
  })

  it('hashes the same secret to the same value, also after its keys have changed, and another router does not', async () => {
    const ring = newKeyRing('k1')
    const mine = await (await openVault(ring)).hash(SECRET)
    expect(await (await openVault(withNewKey(ring, 'k2'))).hash(SECRET)).toBe(mine)
    expect(await (await openVault(newKeyRing('k1'))).hash(SECRET)).not.toBe(mine)
  })

  it.each([{}, { keys: [], pepper: 'x' }, { keys: [{ kid: 'a', k: 'short' }], pepper: 'x' }, 'text', null])('refuses the ring %j without quoting it', async (ring) => {
    await expect(openVault(ring)).rejects.toThrow('the master key is not a ring of keys')
  })

  it('that turns seals with the new key and goes on opening what the old one sealed', async () => {
    const ring = newKeyRing('k1')
    const vault = turning(await openVault(ring))
    const sealed = await vault.seal('x', SECRET)
    vault.turn(await openVault(withNewKey(ring, 'k2')))
    expect(vault.kid).toBe('k2')
    expect(await vault.open('x', sealed)).toBe(SECRET)
    await expect((await openVault(ring)).open('x', await vault.seal('x', SECRET))).rejects.toThrow('k2 is not here')
  })
})
