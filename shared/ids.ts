/**
 * What ids look like. A run is `run_` and a UUIDv7 in hex, so ids sort by age; a session is the CLI's own UUID.
 * Ids are made by the hosts; here they are only recognised, so that a hostile string never reaches a path or a query.
 */
import { z } from 'zod'

export const RunId = z.string().regex(/^run_[0-9a-f]{32}$/, 'is not a run id')
export const BatchId = z.string().regex(/^bat_[0-9a-f]{32}$/, 'is not a batch id')
export const RunnerId = z.string().regex(/^rnr_[0-9a-f]{32}$/, 'is not a runner id')
/** The CLI takes any UUID and writes it in lower case. */
export const SessionId = z.string().regex(/^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/, 'is not a session id (a UUID in lower case)')
/** A tenant names a folder on the runner, so it is as plain as a folder name. */
export const TenantId = z.string().regex(/^[a-z0-9][a-z0-9_-]{0,62}$/, 'is not a tenant id')
export const Name = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/, 'must be 1 to 63 letters, digits, dots, dashes or underscores')

/** The UUID that the id of a run is made of, for clients that expect one. */
export const uuidOfRun = (run: string): string => run.replace(/^run_(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')
