/** The admin API of identity: what app.ts mounts in one go. */
import { adminCredentials } from './credentials.ts'
import { adminIssuers } from './issuers.ts'
import { adminKeys } from './keys.ts'
import { adminTokens } from './tokens.ts'

export const identityRoutes = [adminTokens, adminIssuers, adminCredentials, adminKeys]
