/** What tokens, issuers and credentials have in common: who it is, what he may do, and how far. */
import { z } from '@hono/zod-openapi'
import { Narrowing } from '../../shared/tenant-settings.ts'
import { APP_SCOPES } from '../core/scopes.ts'
import { FILE_ACTOR } from '../store/audit.ts'

export const AppScopes = z.array(z.enum(APP_SCOPES)).min(1).max(32)
export const Subject = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9._@:+/-]{0,127}$/, 'must be 1 to 128 letters, digits or . _ @ : + / -')
  // Under this name the config file is in the audit.
  .refine((subject) => subject !== FILE_ACTOR.subject, 'is reserved')
// Made anew: what was made before the OpenAPI library was loaded cannot be named.
export const Limits = Narrowing.extend({}).openapi('Limits')
