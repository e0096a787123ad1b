import { createServer, type RequestListener, type Server } from 'node:http'
import { chmod, lstat, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, unlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { getRequestListener } from '@hono/node-server'
import { CompactEncrypt, compactDecrypt, decodeJwt, decodeProtectedHeader, importJWK } from 'jose'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { mintEnrolmentToken } from '../router/guard/enrolment.ts'
import { findRunner } from '../router/store/runners.ts'
import { identityRouter, listenOnLoopback, RUNNER_ROUTE, UPGRADE, type IdentityRouter } from '../test/support/identity-router.ts'
import { enroll, fetchAccessToken, routerBase, type EnrollOptions } from './enroll.ts'
import { IdentityError, loadIdentity, loadSealingKey, signAssertion, type Identity } from './identity.ts'

let router: IdentityRouter
let server: Server
let url: string
let top: string
let stateDir: string

const servers: Server[] = []
async function listen(listener: RequestListener): Promise<string> {
  const made = createServer(listener)
  servers.push(made)
  return `http://127.0.0.1:${await listenOnLoopback(made)}`
}
function close(made: Server): Promise<void> {
  made.closeAllConnections()
  return new Promise((resolve) => void made.close(() => resolve()))
}

beforeAll(async () => {
  router = await identityRouter()
  const handle = getRequestListener(router.app.fetch)
  server = createServer((request, response) => void handle(request, response))
  url = `http://127.0.0.1:${await listenOnLoopback(server)}`
})
afterAll(async () => {
  await close(server)
  await router.close()
})
beforeEach(async () => {
  top = await mkdtemp(join(tmpdir(), 'runyard-enroll-'))
  stateDir = join(top, 'state', 'runner')
})
afterEach(async () => {
  await Promise.all(servers.splice(0).map(close))
  await rm(top, { recursive: true, force: true })
})

const ticket = async (): Promise<string> => (await mintEnrolmentToken(router.deps, { tenant: 'acme', pool: 'gpu' })).token
const options = async (over: Partial<EnrollOptions> = {}): Promise<EnrollOptions> => ({
  url,
  token: await ticket(),
  name: 'build-7',
  labels: { os: 'linux' },
  stateDir,
  ...over,
})
const files = async (dir = stateDir): Promise<string[]> => (await readdir(dir)).toSorted()
const mode = async (path: string): Promise<string> => ((await stat(path)).mode & 0o777).toString(8)

async function failure(work: Promise<unknown>): Promise<{ problem: string; message: string }> {
  try {
    await work
  } catch (error) {
    if (error instanceof IdentityError) return { problem: error.problem, message: error.message }
    throw error
  }
  throw new Error('nothing was refused')
}
async function enrolled(): Promise<Identity> {
  await enroll(await options())
  const identity = await loadIdentity(stateDir)
  if (!identity) throw new Error('no identity was written')
  return identity
}

describe('a machine that enrols', () => {
  it('is known to the router by its public keys, and keeps the private ones for itself', async () => {
    const made = await enroll(await options({ pool: 'gpu' }))
    expect(made).toMatchObject({ url, tenant: 'acme', pool: 'gpu', name: 'build-7' })
    expect(await files()).toEqual(['identity.json', 'sealing.jwk', 'signing.jwk'])
    for (const file of await files()) expect(await mode(join(stateDir, file))).toBe('600')
    expect(await mode(stateDir)).toBe('700')

    const row = await findRunner(router.deps.store.db, made.runner_id)
    const signing: unknown = JSON.parse(await readFile(join(stateDir, 'signing.jwk'), 'utf8'))
    const sealing: unknown = JSON.parse(await readFile(join(stateDir, 'sealing.jwk'), 'utf8'))
    expect(signing).toEqual({ ...row?.signingJwk, d: expect.any(String) })
    expect(sealing).toEqual({ ...row?.sealingJwk, d: expect.any(String) })
    expect(row).toMatchObject({ name: 'build-7', labels: { os: 'linux' }, pool: 'gpu' })
    expect(row?.signingJwk).not.toHaveProperty('d')
    expect(row?.sealingJwk).not.toHaveProperty('d')
  })

  it('opens what is sealed to the public key that the router has', async () => {
    const { runner_id: id } = await enroll(await options())
    const row = await findRunner(router.deps.store.db, id)
    const seal = new CompactEncrypt(new TextEncoder().encode('a key')).setProtectedHeader({ alg: 'ECDH-ES', enc: 'A256GCM' })
    const sealed = await seal.encrypt(await importJWK(row!.sealingJwk, 'ECDH-ES'))
    const { plaintext } = await compactDecrypt(sealed, await loadSealingKey(stateDir))
    expect(new TextDecoder().decode(plaintext)).toBe('a key')
    await chmod(join(stateDir, 'sealing.jwk'), 0o640)
    await expect(loadSealingKey(stateDir)).rejects.toMatchObject({ problem: 'broken' })
  })

  it('gets tokens that open the runner routes, as often as it asks', async () => {
    const identity = await enrolled()
    for (let i = 0; i < 2; i++) {
      const { token, expiresInS } = await fetchAccessToken(identity, router.clock.now)
      expect(expiresInS).toBe(900)
      expect((await router.call(RUNNER_ROUTE, { token, headers: UPGRADE })).body).toMatchObject({
        runner: identity.runnerId,
        pool: 'gpu',
      })
    }
  })

  it('may type the URL with a slash at its end', async () => {
    expect((await enroll(await options({ url: `${url}/` }))).url).toBe(url)
  })

  it('does not enrol twice, unless it is told to', async () => {
    const first = await enrolled()
    const token = await ticket()
    expect(await failure(enroll(await options({ token })))).toMatchObject({
      problem: 'exists',
      message: expect.stringMatching(/--force.*identity\.json/),
    })
    expect(await loadIdentity(stateDir)).toMatchObject({ runnerId: first.runnerId })
    // The token was not used up, and with force it makes another runner.
    const second = await enroll(await options({ token, force: true }))
    expect(second.runner_id).not.toBe(first.runnerId)
    expect(await files()).toEqual(['identity.json', 'sealing.jwk', 'signing.jwk'])
    await fetchAccessToken((await loadIdentity(stateDir))!, router.clock.now)
  })

  it('has one identity when two processes enrol it at once', async () => {
    const tries = await Promise.allSettled([enroll(await options()), enroll(await options()), enroll(await options())])
    const won = tries.filter((t) => t.status === 'fulfilled')
    expect(won).toHaveLength(1)
    expect(await loadIdentity(stateDir)).toMatchObject({ runnerId: won[0]?.value.runner_id })
    expect(await files()).toEqual(['identity.json', 'sealing.jwk', 'signing.jwk'])
  })
})

describe('an enrolment that is refused', () => {
  it('leaves nothing behind', async () => {
    const { problem, message } = await failure(enroll(await options({ token: `ret_${'A'.repeat(43)}` })))
    expect(problem).toBe('refused')
    expect(message).toMatch(/unknown, expired, already used/)
    expect(message).not.toContain('ret_')
    expect(await readdir(top)).toEqual([])
  })

  it('leaves alone what was in the directory, and the directory', async () => {
    await mkdir(stateDir, { recursive: true, mode: 0o700 })
    await writeFile(join(stateDir, 'spool'), 'kept')
    await failure(enroll(await options({ token: 'ret_x' })))
    expect(await files()).toEqual(['spool'])
  })

  it('brings back the identity that force would have replaced', async () => {
    const first = await enrolled()
    await failure(enroll(await options({ token: 'ret_x', force: true })))
    expect(await files()).toEqual(['identity.json', 'sealing.jwk', 'signing.jwk'])
    const again = await loadIdentity(stateDir)
    expect(again).toMatchObject({ runnerId: first.runnerId })
    await fetchAccessToken(again!, router.clock.now)
  })

  it('names the pool that the token is not for', async () => {
    expect(await failure(enroll(await options({ pool: 'default' })))).toMatchObject({
      problem: 'refused',
      message: expect.stringContaining('another pool'),
    })
  })

  it.each([
    ['name', { name: 'a b' }],
    ['labels', { labels: { 'a b': 'c' } }],
    ['token', { token: '' }],
  ])('a bad %s is refused before anything is written', async (field, over) => {
    const refusal = await failure(enroll(await options(over)))
    expect(refusal.problem).toBe('invalid')
    expect(refusal.message).toContain(field)
    expect(await readdir(top)).toEqual([])
  })

  it('does not write a key through a symlink that waits for it', async () => {
    await mkdir(stateDir, { recursive: true, mode: 0o700 })
    await symlink(join(top, 'stolen'), join(stateDir, 'signing.jwk'))
    expect((await failure(enroll(await options()))).problem).toBe('exists')
    await enroll(await options({ force: true }))
    await expect(lstat(join(top, 'stolen'))).rejects.toThrow('ENOENT')
    expect((await lstat(join(stateDir, 'signing.jwk'))).isFile()).toBe(true)
  })

  it('names a directory that cannot be one', async () => {
    await writeFile(join(top, 'file'), '')
    expect(await failure(enroll(await options({ stateDir: join(top, 'file', 'runner') })))).toMatchObject({
      problem: 'invalid',
      message: expect.stringContaining('cannot keep an identity'),
    })
  })

  it('does not use a directory that others can write to', async () => {
    await mkdir(stateDir, { recursive: true })
    await chmod(stateDir, 0o777)
    expect(await failure(enroll(await options()))).toMatchObject({
      problem: 'invalid',
      message: expect.stringContaining('chmod 700'),
    })
    expect(await files()).toEqual([])
  })
})

describe('what answers at the URL', () => {
  it('may be nothing', async () => {
    const gone = await listen(() => undefined)
    await Promise.all(servers.splice(0).map(close))
    expect(await failure(enroll(await options({ url: gone })))).toMatchObject({
      problem: 'unreachable',
      message: expect.stringMatching(/cannot reach.*ECONNREFUSED/),
    })
    expect(await readdir(top)).toEqual([])
  })

  it.each<[string, RequestListener, string, RegExp]>([
    [
      'some web server',
      (_, res) => res.writeHead(404, { 'content-type': 'text/html' }).end('<html>'),
      'not_a_router',
      /\(404\).*not as a Runyard router/,
    ],
    [
      'some JSON API',
      (_, res) => res.writeHead(200, { 'content-type': 'application/json' }).end('{"ok":true}'),
      'not_a_router',
      /not as a Runyard router/,
    ],
    [
      'something that agrees to everything',
      (_, res) => res.writeHead(201).end('{"runner_id":"../../etc","tenant":"a","pool":"b"}'),
      'not_a_router',
      /not as a Runyard router/,
    ],
    [
      'a redirect',
      (_, res) => res.writeHead(301, { location: 'https://elsewhere.example/' }).end(),
      'not_a_router',
      /redirects to https:\/\/elsewhere\.example/,
    ],
    [
      'a router in trouble',
      (_, res) => res.writeHead(503).end('{"code":"storage","detail":"the database does not take writes"}'),
      'unavailable',
      /does not take writes \(storage\)/,
    ],
    ['something that hangs up', (req) => req.socket.destroy(), 'unreachable', /cannot reach/],
  ])('%s is told apart', async (_what, listener, problem, message) => {
    const refusal = await failure(enroll(await options({ url: await listen(listener) })))
    expect(refusal.problem).toBe(problem)
    expect(refusal.message).toMatch(message)
    expect(await readdir(top)).toEqual([])
  })

  it.each(['', 'localhost:8787', 'ftp://a', 'not a url', 'https://user:secret@a', 'https://a/?token=x', 'https://a/#x'])(
    '%j is no URL of a router',
    async (bad) => {
      expect((await failure((async () => routerBase(bad))())).problem).toBe('invalid')
    },
  )
})

describe('an identity on disk', () => {
  it('is absent on a machine that has not enrolled', async () => {
    expect(await loadIdentity(stateDir)).toBeUndefined()
  })

  it.each<[string, () => Promise<unknown>]>([
    ['began and did not finish', () => writeFile(join(stateDir, 'identity.json'), '')],
    ['was damaged', () => writeFile(join(stateDir, 'identity.json'), '{"runner_id":')],
    ['names no runner', () => writeFile(join(stateDir, 'identity.json'), '{"runner_id":"../x"}')],
    ['lost its key', () => unlink(join(stateDir, 'signing.jwk'))],
    ['has a damaged key', () => writeFile(join(stateDir, 'signing.jwk'), '{"kty":"OKP"}')],
    ['has a key that others can read', () => chmod(join(stateDir, 'signing.jwk'), 0o640)],
  ])('that %s is refused with what to do', async (_what, damage) => {
    await enrolled()
    await damage()
    expect(await failure(loadIdentity(stateDir))).toMatchObject({ problem: 'broken', message: expect.stringMatching(/enrol/) })
  })

  it('signs an assertion for one address, for half a minute, with a new id each time', async () => {
    const identity = await enrolled()
    const [one, two] = [
      await signAssertion(identity, 'https://a/v1/runners/token', 5_000),
      await signAssertion(identity, 'https://a/v1/runners/token', 5_000),
    ]
    expect(decodeProtectedHeader(one)).toEqual({ alg: 'EdDSA', typ: 'runyard-assertion+jwt' })
    expect(decodeJwt(one)).toEqual({
      iss: identity.runnerId,
      sub: identity.runnerId,
      aud: 'https://a/v1/runners/token',
      iat: 5,
      exp: 35,
      jti: expect.any(String),
    })
    expect(decodeJwt(one).jti).not.toBe(decodeJwt(two).jti)
  })

  it('of a machine whose clock is off is told so', async () => {
    const identity = await enrolled()
    for (const skewMs of [-29_000, 29_000]) await fetchAccessToken(identity, router.clock.now + skewMs)
    expect(await failure(fetchAccessToken(identity, router.clock.now - 61_000))).toMatchObject({
      problem: 'refused',
      message: expect.stringContaining('clock of the runner is behind'),
    })
    expect(await failure(fetchAccessToken(identity, router.clock.now + 61_000))).toMatchObject({
      problem: 'refused',
      message: expect.stringContaining('clock of the runner is ahead'),
    })
  })
})
