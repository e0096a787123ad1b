import { exportJWK, generateKeyPair, SignJWT } from 'jose'
import { expect, it } from 'vitest'
import { identityRouter } from '../../test/support/identity-router.ts'
import { mintEnrolmentToken } from './enrolment.ts'

it('a machine does not get into a disabled tenant, neither by an enrolment token nor by its key', async () => {
  const router = await identityRouter()
  const { token: operator } = await router.mint({ kind: 'admin', tenant: 'default' })
  const { privateKey, publicKey } = await generateKeyPair('EdDSA', { crv: 'Ed25519', extractable: true })
  const sealing = await generateKeyPair('ECDH-ES', { crv: 'P-256', extractable: true })
  const body = {
    signing_jwk: await exportJWK(publicKey),
    sealing_jwk: await exportJWK(sealing.publicKey),
    name: 'build-7',
    labels: {},
    versions: { agent: '0.1.0', cli: null },
  }
  const ticket = async () => (await mintEnrolmentToken(router.deps, { tenant: 'shut', pool: 'gpu' })).token
  const enrol = (token: string) => router.call('/v1/runners/enroll', { body: { ...body, token } })
  const runner = String((await enrol(await ticket())).body['runner_id'])
  const late = await ticket()
  const trade = async () => {
    const nowS = router.clock.now / 1_000
    const claims = { iss: runner, sub: runner, aud: 'http://localhost:8787/v1/runners/token', iat: nowS, exp: nowS + 30, jti: crypto.randomUUID() }
    const assertion = await new SignJWT(claims).setProtectedHeader({ alg: 'EdDSA', typ: 'runyard-assertion+jwt' }).sign(privateKey)
    return router.call('/v1/runners/token', { body: { assertion } })
  }
  const disable = (disabled: boolean) => router.call('/admin/v1/tenants/shut', { method: 'PATCH', token: operator, body: { disabled } })

  expect((await trade()).status).toBe(200)
  await disable(true)
  expect(await enrol(late)).toMatchObject({ status: 403, body: { code: 'forbidden' } })
  expect(await trade()).toMatchObject({ status: 403, body: { code: 'forbidden' } })
  await disable(false)
  expect((await trade()).status).toBe(200)
  await router.close()
})
