/** The admin API but for identity: what app.ts mounts in one go. */
import { auditLog } from './audit.ts'
import { bindings } from './bindings.ts'
import { compat } from './compat.ts'
import { config } from './config.ts'
import { enrolmentTokens } from './enrolment-tokens.ts'
import { limits } from './limits.ts'
import { pools } from './pools.ts'
import { providers } from './providers.ts'
import { retention } from './retention.ts'
import { adminRunners } from './runners.ts'
import { tenants } from './tenants.ts'
import { webhookDeliveries } from './webhook-deliveries.ts'
import { webhooks } from './webhooks.ts'

export const adminRoutes = [auditLog, bindings, compat, config, enrolmentTokens, limits, pools, providers, retention, adminRunners, tenants, webhooks, webhookDeliveries]
