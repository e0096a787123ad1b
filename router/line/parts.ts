/** What the line is made of and with, apart from who waits in it. */
import type { Append } from '../core/runner-core.ts'
import type { Dispatch, Log, Platform, Store } from '../ports.ts'
import type { Sight } from './pass.ts'

/** The runners, as far as the line has to do with them. */
export interface Fleet extends Sight {
  /** Resolves once the runner accepted and the lease is durable; throws the `Fault` of a refusal. */
  dispatch(d: Dispatch): Promise<void>
  /** Ends a run that no runner holds. False: somebody else has moved it. */
  end(append: Append): Promise<boolean>
}

/** How a run comes back into the line: whether its id was given out, and which runner let its offer pass. */
export type Returned = { readonly known: boolean; readonly silent?: string }

export interface LineParts {
  readonly store: Store
  readonly fleet: Fleet
  readonly platform: Platform
  readonly log: Log
  /** Milliseconds on a clock that nobody sets. */
  readonly now: () => number
  /** Resolves when the event loop has come round: what happens until then is met in one pass. */
  readonly nextTurn: () => Promise<void>
  /** A write that failed may be kept later than its row is looked for, as behind a network. */
  readonly unsure?: boolean
}
