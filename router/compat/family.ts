/**
 * A dialect of another server: which paths are its own, and how it says "no" there, whoever says it first.
 *
 * Dialects translate: in to what router/engine takes, out from what it gives. They never know of each other.
 */
import type { OpenAPIHono } from '@hono/zod-openapi'
import type { Context } from 'hono'
import type { FamilyName } from '../../shared/compat-settings.ts'
import type { Fault } from '../../shared/faults.ts'
import type { AppEnv } from '../ports.ts'

export interface Family {
  readonly name: FamilyName
  /** Paths that are nobody else's. What goes wrong on them is said in this dialect, unknown routes among them included. */
  owns(path: string): boolean
  /** Bytes of a body, where the original took another number than we do. */
  readonly maxBody?: number
  /** Must not throw, and must not tell what the fault does not. What every "no" says in its headers is set already. */
  refuse(c: Context<AppEnv>, fault: Fault): Response
  readonly routes: OpenAPIHono<AppEnv>
}
