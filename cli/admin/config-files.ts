/** `runyard config-file …`: agents, skills, rules and the CLAUDE.md that every runner of a pool has for the CLI. */
import { readFile } from 'node:fs/promises'
import { Option, type Command } from 'commander'
import { z } from 'zod'
import { openClient } from '../client.ts'
import { CliError, EXIT } from '../exit.ts'
import { out, say } from '../output.ts'
import { table, text, when } from '../table.ts'
import { adminFlags, part, type AdminFlags } from './call.ts'
import { stdin } from './secret.ts'

const Entry = z.looseObject({
  id: z.string(),
  description: z.string().nullable(),
  version: z.number(),
  chars: z.number(),
  updated_at: z.string(),
})
const Runner = z.looseObject({ id: z.string(), name: z.string(), version: z.number().nullable(), error: z.string().nullable() })
const ConfigSet = z.looseObject({ pool: z.string(), version: z.number(), data: z.array(Entry), runners: z.array(Runner) })
const File = z.looseObject({ id: z.string(), content: z.string() })
const Written = z.looseObject({ id: z.string(), pool: z.string(), version: z.number() })

type Flags = AdminFlags & { readonly pool?: string }

export function configFileCommands(program: Command): void {
  const files = program.command('config-file').description('agents, skills, rules and the CLAUDE.md of a pool')
  const command = (name: string, about: string) =>
    adminFlags(files.command(name).description(about), 'router').addOption(new Option('--pool <name>', 'which pool, if not default'))
  const onOne = (name: string, about: string) => command(name, about).argument('<id>', 'agents.<name>, skills.<name>, rules.<name> or claude-md')

  command('list', 'the files of a pool, and which runner has them').action(async (flags: Flags) => {
    const answer = ConfigSet.parse(await (await ask(flags, '')).json())
    show(flags, answer, () => list(answer))
  })

  onOne('get', 'what a file says').action(async (id: string, flags: Flags) => {
    const answer = File.parse(await (await ask(flags, `/${part(id)}`)).json())
    show(flags, answer, () => process.stdout.write(answer.content))
  })

  onOne('put', 'write a file, in place of what was there')
    .argument('<file>', 'what it says; - reads it from stdin')
    .action(async (id: string, file: string, flags: Flags) => {
      const content = await contentOf(file)
      const init = { method: 'PUT', body: JSON.stringify({ content }) }
      const answer = Written.parse(await (await ask(flags, `/${part(id)}`, init)).json())
      show(flags, answer, () => out(`${answer.id} of pool ${answer.pool} is written, version ${answer.version}`))
    })

  onOne('delete', 'take a file away').action(async (id: string, flags: Flags) => {
    await ask(flags, `/${part(id)}`, { method: 'DELETE' })
    show(flags, { id, deleted: true }, () => out(`${text(id)} is gone`))
  })
}

async function ask({ dataDir, url, pool }: Flags, path: string, init?: RequestInit): Promise<Response> {
  const client = await openClient({ dataDir, url, admin: true })
  return client.fetch(`/v1/config${path}${pool === undefined ? '' : `?pool=${part(pool)}`}`, init)
}

async function contentOf(file: string): Promise<string> {
  if (file === '-') return stdin()
  return readFile(file, 'utf8').catch((error: unknown) => {
    throw new CliError(EXIT.usage, `${file} cannot be read: ${error instanceof Error ? error.message : String(error)}`)
  })
}

function show({ json }: Flags, value: unknown, human: () => void): void {
  if (json) out(JSON.stringify(value))
  else human()
}

function list({ pool, version, data, runners }: z.infer<typeof ConfigSet>): void {
  table(
    ['ID', 'VERSION', 'CHARACTERS', 'CHANGED', 'DESCRIPTION'],
    data.map((entry) => [entry.id, entry.version, entry.chars, when(entry.updated_at), entry.description]),
    `pool ${pool} has no files`,
  )
  for (const { name, version: has, error } of runners) {
    const state = error !== null ? error : has === null ? 'has not said what it has' : has === version ? 'has them' : `has version ${has}`
    say(`runner ${text(name)}: ${text(state)}`)
  }
}
