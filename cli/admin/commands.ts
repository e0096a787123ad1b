/** The commands that talk to the admin API, all in one. */
import type { Command } from 'commander'
import { auditCommand, bindingsCommands } from './bindings.ts'
import { compatCommands } from './compat.ts'
import { configFileCommands } from './config-files.ts'
import { configCommands } from './config.ts'
import { fleetCommands } from './fleet.ts'
import { identityCommands } from './identity.ts'
import { limitsCommands, routingCommands } from './limits.ts'
import { providerCommands } from './provider.ts'
import { sessionCommands } from './session.ts'
import { tenantCommands } from './tenant.ts'
import { tokenCommands } from './token.ts'
import { usageCommand } from './usage.ts'
import { webhookCommands } from './webhook.ts'

export function adminCommands(program: Command): void {
  for (const add of [
    providerCommands,
    routingCommands,
    bindingsCommands,
    limitsCommands,
    usageCommand,
    fleetCommands,
    tokenCommands,
    identityCommands,
    tenantCommands,
    webhookCommands,
    auditCommand,
    configCommands,
    configFileCommands,
    sessionCommands,
    compatCommands,
  ])
    add(program)
}
