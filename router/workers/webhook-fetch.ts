/**
 * Webhooks over the network that the Worker is given. On Cloudflare that is the internet and nothing else; workerd on a
 * machine of one's own has a network for each answer to the question whether private addresses may be called, and judges
 * them where it connects.
 */
import { TOO_LATE, Undelivered, UNREACHABLE, type Post } from '../webhooks/post.ts'
import type { Env } from './env.ts'

export function webhookPost({ WEBHOOKS_PUBLIC, WEBHOOKS_PRIVATE }: Env): Post {
  return async ({ url, headers, body, timeoutMs, mayBePrivate, signal }) => {
    const network = (mayBePrivate ? WEBHOOKS_PRIVATE : WEBHOOKS_PUBLIC) ?? globalThis
    const late = AbortSignal.timeout(timeoutMs)
    try {
      const answer = await network.fetch(url, { method: 'POST', headers, body, redirect: 'manual', signal: AbortSignal.any([late, signal]) })
      // Nobody reads what it says.
      await answer.body?.cancel()
      return { status: answer.status, retryAfter: answer.headers.get('retry-after') ?? undefined }
    } catch (error) {
      throw new Undelivered(late.aborted ? TOO_LATE : UNREACHABLE, { cause: error })
    }
  }
}
