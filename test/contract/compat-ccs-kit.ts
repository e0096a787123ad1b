/** Requests as clients of ccs make them. */
import type { Fleet, Json } from '../kit/fleet.ts'

export type Answer = readonly [status: number, body: Json]

/** A request as a client of ccs makes it. */
export async function asked(fleet: Fleet, method: string, path: string, body?: unknown, init: RequestInit & { token?: string | null } = {}): Promise<Answer> {
  const response = await fleet.call(path, { ...init, method, ...(body === undefined ? {} : { body: JSON.stringify(body) }) })
  const text = await response.text()
  return [response.status, text === '' ? {} : (JSON.parse(text) as Json)]
}

export const NOWHERE = '00000000-0000-4000-8000-000000000000'
/** What it says when it does not do something. */
export const no = (error: unknown) => ({ success: false, error })
