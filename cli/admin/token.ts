/** `runyard token …`: tokens for apps and people. One is printed once and stored nowhere. */
import { Option, type Command } from 'commander'
import { z } from 'zod'
import { CliError, EXIT } from '../exit.ts'
import * as o from '../options.ts'
import { out, say } from '../output.ts'
import { table, when } from '../table.ts'
import { adminFlags, openAdmin, part, type AdminFlags } from './call.ts'
import { dollars } from './limits.ts'

const Created = z.looseObject({ token: z.string(), jti: z.string(), expires_at: z.string() })
const Token = z.looseObject({
  jti: z.string(),
  kind: z.string(),
  subject: z.string(),
  scopes: z.array(z.string()),
  family: z.string().nullable(),
  limits: z.looseObject({}),
  created_at: z.string(),
  expires_at: z.string(),
  revoked_at: z.string().nullable(),
})

type CreateFlags = AdminFlags & {
  readonly kind: 'app' | 'admin'
  readonly scope: string[]
  readonly subject?: string
  readonly family?: string
  readonly ttl?: number
  readonly pool?: string[]
  readonly model?: string[]
  readonly permissionMode?: string[]
  readonly budget?: number
  readonly dayBudget?: number
  readonly runBudget?: number
}

export function tokenCommands(program: Command): void {
  const token = program.command('token').description('tokens for apps and people')
  const some = (value: string, all: string[] = []) => o.list(value, all)

  adminFlags(token.command('create').description('make a token; it is printed once'))
    .addOption(new Option('--kind <kind>', 'what it is good for').choices(['app', 'admin']).default('app'))
    .addOption(new Option('--scope <scope>', 'scope of an app token (repeatable)').default([]).argParser(o.list))
    .addOption(new Option('--subject <name>', 'who it is for'))
    .addOption(new Option('--family <name>', 'tokens of a family are revoked together'))
    .addOption(new Option('--ttl <duration>', 'how long it is good').argParser(o.duration))
    .addOption(new Option('--pool <pool>', 'a pool that its runs may use, of no other (repeatable)').argParser(some))
    .addOption(new Option('--model <name>', 'a model that its runs may use (repeatable)').argParser(some))
    .addOption(new Option('--permission-mode <mode>', 'a mode that its runs may use (repeatable)').argParser(some))
    .addOption(new Option('--budget <usd>', 'what it may spend in its life').argParser(dollars))
    .addOption(new Option('--day-budget <usd>', 'what it may spend in a day (UTC)').argParser(dollars))
    .addOption(new Option('--run-budget <usd>', 'what one of its runs may reserve').argParser(dollars))
    .action(create)

  adminFlags(token.command('list').description('tokens that this router made, the newest first'))
    .addOption(new Option('--family <name>', 'of this family only'))
    .action(async ({ family, ...flags }: AdminFlags & { family?: string }) => {
      const admin = await openAdmin(flags)
      const data = await admin.list(Token, 'tokens', { tenant: flags.tenant, family })
      admin.show({ data }, () =>
        table(
          ['JTI', 'KIND', 'SUBJECT', 'FAMILY', 'STATE', 'CREATED', 'EXPIRES', 'SCOPES'],
          data.map((t) => [
            t.jti,
            t.kind,
            t.subject,
            t.family,
            stateOf(t),
            when(t.created_at),
            when(t.expires_at),
            t.kind === 'admin' ? 'all' : t.scopes.join(' '),
          ]),
          'there are no tokens',
        ),
      )
    })

  adminFlags(token.command('revoke').description('take tokens back: one, a family, or all of a tenant'))
    .argument('[jti]', 'which one, as `token list` shows it')
    .addOption(new Option('--family <name>', 'all of this family'))
    .addOption(new Option('--all', 'everything of the tenant, the token you are using included'))
    .action(revoke)
}

async function create({ kind, scope, subject, family, ttl, ...flags }: CreateFlags): Promise<void> {
  const admin = await openAdmin(flags)
  const { pool: pools, model: models, permissionMode: modes, budget, dayBudget, runBudget } = flags
  const limits = { pools, models, permission_modes: modes, budget_usd: budget, day_usd: dayBudget, run_usd: runBudget }
  const narrowed = Object.values(limits).some((value) => value !== undefined)
  const body = {
    kind,
    scopes: scope.length > 0 ? scope : undefined,
    subject,
    family,
    tenant: flags.tenant,
    ttl_s: ttl,
    limits: narrowed ? limits : undefined,
  }
  const created = Created.parse(await admin.send('POST', 'tokens', body))
  admin.show(created, () => {
    out(created.token)
    say(`valid until ${created.expires_at}; it is not stored, so keep it now`)
  })
}

async function revoke(
  jti: string | undefined,
  { family, all, ...flags }: AdminFlags & { family?: string; all?: true },
): Promise<void> {
  if ([jti, family, all].filter((way) => way !== undefined).length !== 1)
    throw new CliError(EXIT.usage, 'say which tokens to take back', 'give the jti of one, or --family <name>, or --all')
  const admin = await openAdmin(flags)
  if (jti !== undefined) {
    const revoked = Token.parse(await admin.send('DELETE', `tokens/${part(jti)}`))
    return admin.show(revoked, () => out(`token ${jti} of ${revoked.subject} is revoked; it is refused everywhere within 5 s`))
  }
  const answer = z
    .looseObject({ revoked: z.number() })
    .parse(await admin.send('POST', 'tokens/revoke', { tenant: flags.tenant, family, all }))
  admin.show(answer, () => out(`${answer.revoked} tokens are revoked; they are refused everywhere within 5 s`))
}

function stateOf({ revoked_at: revokedAt, expires_at: expiresAt }: z.infer<typeof Token>): string {
  if (revokedAt !== null) return 'revoked'
  return Date.parse(expiresAt) < Date.now() ? 'expired' : 'good'
}
