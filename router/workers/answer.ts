/**
 * Between objects only plain data travels: an error that is thrown across arrives without its class. So a "no" that
 * somebody must hear crosses as an answer, and becomes a `Fault` again on the other side.
 */
import { Fault, type FaultCode } from '../../shared/faults.ts'
import { asFault } from '../guard/problem.ts'

export type PlainFault = { code: FaultCode; message: string; retryAfterS?: number; mayStart: boolean; extra: string }
export type Answer<T> = { ok: true; value: T } | { ok: false; fault: PlainFault }

export function plain(error: unknown): PlainFault {
  const { code, message, retryAfterS, mayStart, extra } = asFault(error)
  return { code, message, ...(retryAfterS === undefined ? {} : { retryAfterS }), mayStart, extra: JSON.stringify(extra) }
}

export function revived({ code, message, retryAfterS, mayStart, extra }: PlainFault): Fault {
  return new Fault(code, message, {
    ...(retryAfterS === undefined ? {} : { retryAfterS }),
    mayStart,
    extra: JSON.parse(extra) as Record<string, unknown>,
  })
}

export async function answerOf<T>(work: Promise<T>): Promise<Answer<T>> {
  try {
    return { ok: true, value: await work }
  } catch (error) {
    return { ok: false, fault: plain(error) }
  }
}

export function valueOf<T>(answer: Answer<T>): T {
  if (answer.ok) return answer.value
  throw revived(answer.fault)
}
