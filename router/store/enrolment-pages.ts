/** Enrolment tokens as an admin sees them: by the first characters of their hash, as the token itself is nowhere. */
import { and, asc, eq, gt, sql } from 'drizzle-orm'
import { enrolments } from '../../drizzle/schema.ts'
import type { Db, Statement } from '../ports.ts'
import type { Enrolment } from './enrolments.ts'

export type EnrolmentRow = typeof enrolments.$inferSelect

/** 96 bits. */
const ID_CHARS = 16

export const enrolmentId = (hash: string): string => `enr_${hash.slice(0, ID_CHARS)}`

export const insertEnrolmentStatement = (db: Db, enrolment: Enrolment): Statement => db.insert(enrolments).values(enrolment)

/** In the order of their ids; those that were used or have expired are there until they are swept. */
export function listEnrolments(db: Db, tenant: string, after: string | undefined, limit: number): Promise<EnrolmentRow[]> {
  return db
    .select()
    .from(enrolments)
    .where(and(eq(enrolments.tenant, tenant), after === undefined ? undefined : gt(idOf, after)))
    .orderBy(asc(enrolments.hash))
    .limit(limit)
}

export async function findEnrolment(db: Db, id: string): Promise<EnrolmentRow | undefined> {
  const [row] = await db.select().from(enrolments).where(eq(idOf, id)).limit(1)
  return row
}

export const deleteEnrolment = (db: Db, hash: string): Statement => db.delete(enrolments).where(eq(enrolments.hash, hash))

const idOf = sql<string>`'enr_' || substr(${enrolments.hash}, 1, ${sql.raw(String(ID_CHARS))})`
