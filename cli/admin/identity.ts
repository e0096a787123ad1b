/** `runyard issuer …`, `credential …` and `key …`: who else may say who somebody is, and what signs our own tokens. */
import { InvalidArgumentError, Option, type Command } from 'commander'
import { z } from 'zod'
import { CliError, EXIT } from '../exit.ts'
import * as o from '../options.ts'
import { out } from '../output.ts'
import { table, when } from '../table.ts'
import { adminFlags, openAdmin, part, type AdminFlags } from './call.ts'
import { masterKeyCommands } from './master-key.ts'
import { keyFlags, keyOf, type KeyFlags } from './secret.ts'

const Issuer = z.looseObject({
  id: z.string(),
  tenant: z.string(),
  url: z.string(),
  audience: z.string(),
  mapping: z.looseObject({ require: z.array(z.unknown()), scopes: z.array(z.string()) }),
  enabled: z.boolean(),
})
const Credential = z.looseObject({
  id: z.string(),
  kind: z.string(),
  subject: z.string(),
  scopes: z.array(z.string()),
  created_at: z.string(),
})
const SigningKey = z.looseObject({
  kid: z.string(),
  state: z.string(),
  created_at: z.string().nullable(),
  retired_at: z.string().nullable(),
})

export function identityCommands(program: Command): void {
  issuerCommands(program.command('issuer').description('who else may say who somebody is'))
  credentialCommands(program.command('credential').description('keys and passwords that clients of older servers have'))
  const key = program.command('key').description('the keys that sign the tokens of this router, and the one that its secrets are sealed with')
  keyCommands(key)
  masterKeyCommands(key)
}

type Claims = Record<string, string[]>
type IssuerFlags = AdminFlags & { issuer: string; audience: string; require: Claims; scope: string[]; subject?: string }

function issuerCommands(issuer: Command): void {
  adminFlags(issuer.command('add').description('trust the tokens of an issuer, for one tenant'))
    .argument('<id>', 'what it will be called')
    .requiredOption('--issuer <url>', 'as it is in `iss` of its tokens')
    .requiredOption('--audience <name>', 'one of `aud` of its tokens')
    .addOption(
      new Option('--require <claim=value>', 'a claim and what it has to be; more values of one claim: any (repeatable)')
        .argParser(claim)
        .makeOptionMandatory(),
    )
    .addOption(new Option('--scope <scope>', 'what its tokens may do (repeatable)').default([]).argParser(o.list))
    .addOption(new Option('--subject <claim>', 'the claim that says who it is').default('sub'))
    .action(async (id: string, { issuer: url, audience, require, scope, subject, ...flags }: IssuerFlags) => {
      const admin = await openAdmin(flags)
      const mapping = { subject, scopes: scope, require: Object.entries(require).map(([name, is]) => ({ claim: name, is })) }
      const made = Issuer.parse(await admin.send('POST', 'issuers', { id, url, audience, tenant: flags.tenant, mapping }))
      admin.show(made, () => out(`tokens of ${made.url} for ${made.audience} are taken, for the tenant ${made.tenant}`))
    })

  adminFlags(issuer.command('list').description('issuers that are trusted')).action(async (flags: AdminFlags) => {
    const admin = await openAdmin(flags)
    const data = await admin.list(Issuer, 'issuers', { tenant: flags.tenant })
    admin.show({ data }, () =>
      table(
        ['ID', 'STATE', 'URL', 'AUDIENCE', 'SCOPES'],
        data.map((i) => [i.id, i.enabled ? 'enabled' : 'disabled', i.url, i.audience, i.mapping.scopes.join(' ')]),
        'no issuer but this router is trusted',
      ),
    )
  })

  for (const [name, enabled] of [
    ['enable', true],
    ['disable', false],
  ] as const) {
    adminFlags(issuer.command(name).description(enabled ? 'take its tokens again' : 'refuse its tokens'))
      .argument('<id>', 'which one')
      .action(async (id: string, flags: AdminFlags) => {
        const admin = await openAdmin(flags)
        const answer = Issuer.parse(await admin.send('PATCH', `issuers/${part(id)}`, { enabled }))
        admin.show(answer, () => out(`issuer ${id} is ${name}d`))
      })
  }

  adminFlags(issuer.command('remove').description('trust an issuer no more'))
    .argument('<id>', 'which one')
    .action(async (id: string, flags: AdminFlags) =>
      remove(flags, `issuers/${part(id)}`, { id, removed: true }, `issuer ${id} is removed`),
    )
}

type CredentialFlags = AdminFlags & KeyFlags & { readonly subject: string; readonly user?: string; readonly scope: string[] }

function credentialCommands(credential: Command): void {
  keyFlags(adminFlags(credential.command('add').description('take a key, or with --user a password, that a client has already')))
    .requiredOption('--subject <name>', 'who uses it')
    .addOption(new Option('--user <name>', 'it is the password of this user, sent as Basic'))
    .addOption(new Option('--scope <scope>', 'what it may do (repeatable)').default([]).argParser(o.list))
    .action(async ({ subject, user, scope, ...flags }: CredentialFlags) => {
      const secret = await keyOf(flags)
      if (secret === undefined)
        throw new CliError(
          EXIT.usage,
          'there is no secret',
          'give it by --key-file <file>, --key-file - for stdin, or --key-env <name>',
        )
      const admin = await openAdmin(flags)
      const which = user === undefined ? { kind: 'key', secret } : { kind: 'basic', user, password: secret }
      const body = { ...which, subject, tenant: flags.tenant, scopes: scope.length > 0 ? scope : undefined }
      const made = Credential.parse(await admin.send('POST', 'credentials', body))
      admin.show(made, () => out(`${made.id} of ${made.subject} opens app routes from now on`))
    })

  adminFlags(credential.command('list').description('those that are registered, without their secrets')).action(
    async (flags: AdminFlags) => {
      const admin = await openAdmin(flags)
      const data = await admin.list(Credential, 'credentials', { tenant: flags.tenant })
      admin.show({ data }, () =>
        table(
          ['ID', 'KIND', 'SUBJECT', 'CREATED', 'SCOPES'],
          data.map((c) => [c.id, c.kind, c.subject, when(c.created_at), c.scopes.join(' ')]),
          'no key or password of an older server is registered',
        ),
      )
    },
  )

  adminFlags(credential.command('remove').description('refuse one from now on'))
    .argument('<id>', 'which one')
    .action(async (id: string, flags: AdminFlags) =>
      remove(flags, `credentials/${part(id)}`, { id, removed: true }, `${id} opens nothing any more`),
    )
}

function keyCommands(key: Command): void {
  adminFlags(key.command('list').description('signing keys, the newest first'), 'router').action(async (flags: AdminFlags) => {
    const admin = await openAdmin(flags)
    const data = await admin.list(SigningKey, 'keys')
    admin.show({ data }, () =>
      table(
        ['KEY', 'STATE', 'CREATED', 'RETIRED'],
        data.map((k) => [k.kid, k.state, when(k.created_at), when(k.retired_at)]),
        '',
      ),
    )
  })

  adminFlags(
    key.command('rotate').description('sign with a new key; the one before goes on verifying, an older one ends'),
    'router',
  ).action(async (flags: AdminFlags) => {
    const admin = await openAdmin(flags)
    const made = SigningKey.parse(await admin.send('POST', 'keys/rotate'))
    admin.show(made, () => out(`key ${made.kid} signs from now on`))
  })

  adminFlags(key.command('retire').description('end a key, and every token that it signed'), 'router')
    .argument('<kid>', 'which one')
    .action(async (kid: string, flags: AdminFlags) => {
      const admin = await openAdmin(flags)
      const answer = SigningKey.parse(await admin.send('DELETE', `keys/${part(kid)}`))
      admin.show(answer, () => out(`key ${kid} is retired`))
    })
}

async function remove(flags: AdminFlags, path: string, value: object, said: string): Promise<void> {
  const admin = await openAdmin(flags)
  await admin.send('DELETE', path)
  admin.show(value, () => out(said))
}

function claim(text: string, all: Claims = {}): Claims {
  const at = text.indexOf('=')
  if (at < 1) throw new InvalidArgumentError('must look like repository=acme/app')
  const name = text.slice(0, at)
  return { ...all, [name]: [...(all[name] ?? []), text.slice(at + 1)] }
}
