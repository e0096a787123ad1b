/**
 * Runners that a router knows without having enrolled them: rows in its database, and the key that all of them sign with.
 *
 * What enrolment costs is not measured here, and thousands of them over HTTP would take minutes. The router holds a runner
 * to the key in its row and never compares two.
 */
import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { exportJWK, generateKeyPair, type JWK } from 'jose'
import { runners } from '../../drizzle/schema.ts'
import { openDatabase } from '../../router/node/database.ts'
import { ensureTenant } from '../../router/store/tenants.ts'
import type { Rig } from '../rig.ts'

export interface Roster {
  readonly url: string
  readonly ids: readonly string[]
  readonly signingJwk: JWK
}

const TENANT = 'default'

export async function enlist({ dir, where }: Pick<Rig, 'dir' | 'where'>, count: number): Promise<Roster> {
  const signing = await generateKeyPair('EdDSA', { crv: 'Ed25519', extractable: true })
  const sealing = await generateKeyPair('ECDH-ES', { crv: 'P-256' })
  const keys = { signingJwk: { ...(await exportJWK(signing.publicKey)) }, sealingJwk: { ...(await exportJWK(sealing.publicKey)) } }
  const ids = Array.from({ length: count }, () => `rnr_${randomUUID().replaceAll('-', '')}`)
  const database = await openDatabase(join(dir, 'router', 'runyard.db'))
  try {
    const now = Date.now()
    await ensureTenant(database.db, TENANT, now)
    const rows = ids.map((id, n) => ({ id, tenant: TENANT, pool: 'default', name: `sim-${n}`, labels: {}, ...keys, createdAt: now }))
    await database.batch(rows.map((row) => database.db.insert(runners).values(row)))
  } finally {
    await database.close()
  }
  return { url: `http://127.0.0.1:${where.port}`, ids, signingJwk: await exportJWK(signing.privateKey) }
}
