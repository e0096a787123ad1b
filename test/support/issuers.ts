/** Issuers of tokens on loopback: a real OpenID Connect provider, and one whose every answer the test decides. */
import { createServer, type Server } from 'node:http'
import { exportJWK, generateKeyPair, SignJWT, type CryptoKey, type JWK, type JWTHeaderParameters, type JWTPayload } from 'jose'
import { Provider } from 'oidc-provider'
import { listenOnLoopback } from './identity-router.ts'

export interface OidcIssuer {
  readonly url: string
  /** A JWT access token by client credentials, for this audience. */
  token(audience: string): Promise<string>
  close(): Promise<void>
}

const CLIENT = { client_id: 'ci', client_secret: 'not-a-secret' }

/** `claims`: what the provider puts into each token besides its own. */
export async function oidcIssuer(claims: Record<string, unknown> = {}): Promise<OidcIssuer> {
  const server = createServer()
  const url = `http://127.0.0.1:${await listenOnLoopback(server)}`
  const { privateKey } = await generateKeyPair('RS256', { extractable: true })
  const provider = new Provider(url, {
    clients: [{ ...CLIENT, grant_types: ['client_credentials'], redirect_uris: [], response_types: [] }],
    jwks: { keys: [{ ...(await exportJWK(privateKey)), kid: 'first', use: 'sig', alg: 'RS256' }] },
    cookies: { keys: ['test'] },
    ttl: { ClientCredentials: 600 },
    extraTokenClaims: () => claims,
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: (_ctx, resource) => ({ scope: '', audience: resource, accessTokenFormat: 'jwt', accessTokenTTL: 600, jwt: { sign: { alg: 'RS256' } } }),
      },
    },
  })
  const answer = provider.callback()
  server.on('request', (request, response) => void answer(request, response))
  return {
    url,
    async token(audience) {
      const response = await fetch(`${url}/token`, {
        method: 'POST',
        headers: { authorization: `Basic ${btoa(`${CLIENT.client_id}:${CLIENT.client_secret}`)}` },
        body: new URLSearchParams({ grant_type: 'client_credentials', resource: audience }),
      })
      const body = (await response.json()) as { access_token?: string }
      if (body.access_token === undefined) throw new Error(`the provider answered ${response.status}: ${JSON.stringify(body)}`)
      return body.access_token
    },
    close: () => closed(server),
  }
}

export interface ScriptedIssuer {
  readonly url: string
  /** Paths that were asked for, in order. */
  readonly asked: string[]
  /** What a path answers instead of what it should. */
  readonly answers: Map<string, { status?: number; headers?: Record<string, string>; body?: string }>
  /** Signs with its newest key. */
  sign(claims: JWTPayload, header?: Partial<JWTHeaderParameters>): Promise<string>
  /** A new key; the others stay in the key set unless they are dropped. */
  rotate(drop?: boolean): Promise<void>
  close(): Promise<void>
}

export async function scriptedIssuer(alg = 'ES256'): Promise<ScriptedIssuer> {
  const asked: string[] = []
  const answers: ScriptedIssuer['answers'] = new Map()
  let published: JWK[] = []
  let signing: { key: CryptoKey; kid: string }
  const server = createServer((request, response) => {
    const path = request.url ?? ''
    asked.push(path)
    const documents: Record<string, unknown> = {
      '/.well-known/openid-configuration': { issuer: url, jwks_uri: `${url}/keys` },
      '/keys': { keys: published },
    }
    const { status = path in documents ? 200 : 404, headers = {}, body = JSON.stringify(documents[path] ?? {}) } = answers.get(path) ?? {}
    response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(body)
  })
  const url = `http://127.0.0.1:${await listenOnLoopback(server)}`
  const rotate = async (drop = false) => {
    const pair = await generateKeyPair(alg, { extractable: true })
    const kid = `key-${published.length + 1}-${crypto.randomUUID()}`
    const jwk = { ...(await exportJWK(pair.publicKey)), kid, use: 'sig', alg }
    published = drop ? [jwk] : [...published, jwk]
    signing = { key: pair.privateKey, kid }
  }
  await rotate()
  return {
    url,
    asked,
    answers,
    sign: (claims, header = {}) => new SignJWT({ iss: url, ...claims }).setProtectedHeader({ alg, kid: signing.kid, ...header }).sign(signing.key),
    rotate,
    close: () => closed(server),
  }
}

async function closed(server: Server): Promise<void> {
  server.closeAllConnections()
  await new Promise((resolve) => server.close(resolve))
}
