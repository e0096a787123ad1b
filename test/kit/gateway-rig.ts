/** A gateway in front of two scripted providers, and requests to it as the CLI makes them. */
import { systemClock } from '../../runner/clock.ts'
import { startGateway, type Gateway, type Seat } from '../../runner/gateway/gateway.ts'
import type { Payer, Purse } from '../../runner/gateway/purse.ts'
import type { ProviderReport } from '../../shared/grants.ts'
import { startModel, text, type Model } from '../model/scripted.ts'

export const RUN = `run_${'a'.repeat(32)}`
export const KEY = 'sk-the-key-of-a-provider'
export const BODY = JSON.stringify({ model: 'some-model', stream: true, messages: [{ role: 'user', content: 'hello' }] })
const SESSION = '0190a8c4-7c1e-4000-8000-000000000001'

type Payers = readonly [Payer, ...Payer[]]

export interface GatewayRig {
  readonly a: Model
  readonly b: Model
  readonly gateway: Gateway
  /** Of requests that are over. */
  readonly reports: ProviderReport[]
  /** Of answers that have begun. */
  readonly headers: ProviderReport[]
  /** Everything that was logged, a line each. */
  readonly logged: string[]
  readonly payer: (provider: string, url: string, more?: Partial<Payer>) => Payer
  /** Of `a` and `b` unless told otherwise. */
  readonly purse: (payers?: Payers, more?: Partial<Purse>) => Purse
  /** A seat whose turn has begun. */
  readonly begun: (purse?: Purse) => Seat
  close(): Promise<void>
}

export async function gatewayRig(): Promise<GatewayRig> {
  const [a, b] = await Promise.all([startModel(() => text('from a')), startModel(() => text('from b'))])
  const reports: ProviderReport[] = []
  const headers: ProviderReport[] = []
  const report = (news: ProviderReport) => (news.stage === 'end' ? reports : headers).push(news)
  const logged: string[] = []
  const log = (message: string, fields: object) => logged.push(`${message} ${JSON.stringify(fields)}`)
  const gateway = await startGateway({ env: {}, clock: systemClock, report, log })
  const rig: GatewayRig = {
    a,
    b,
    gateway,
    reports,
    headers,
    logged,
    payer: (provider, url, more = {}) => ({
      provider,
      version: 1,
      mayAsk: () => true,
      baseUrl: new URL(url),
      headers: { 'x-api-key': KEY },
      secrets: [KEY],
      modelMap: {},
      mayBePrivate: true,
      ...more,
    }),
    purse: (payers = [rig.payer('a', a.url), rig.payer('b', b.url)], more = {}) => ({
      run: RUN,
      fence: 1,
      tenant: 'default',
      session: SESSION,
      payers,
      headersTimeoutMs: 5_000,
      stallMs: 60_000,
      account: { failureThreshold: 2, recoveryMs: 60_000 },
      ...more,
    }),
    begun: (purse = rig.purse()) => {
      const seat = gateway.seat(purse.tenant)
      seat.begin(purse)
      return seat
    },
    async close() {
      await gateway.close()
      await Promise.all([a.close(), b.close()])
    },
  }
  return rig
}

/** As the CLI behind that seat. */
export function ask(seat: Seat, init: RequestInit = {}, path = '/v1/messages?beta=true'): Promise<Response> {
  const headers = {
    'x-api-key': seat.env.ANTHROPIC_API_KEY,
    'content-type': 'application/json',
    'x-claude-code-session-id': SESSION,
    ...(init.headers as Record<string, string>),
  }
  return fetch(seat.env.ANTHROPIC_BASE_URL + path, { method: 'POST', body: BODY, ...init, headers })
}

/** `from a` or `from b`, by who answered. */
export async function said(response: Response): Promise<string | undefined> {
  return /"text":"(from [ab])/.exec(await response.text())?.[1]
}
