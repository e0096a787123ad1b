import { mkdir, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startCli, tempFolder, type Cli } from '../test/model/claude.ts'
import { startModel, type Model } from '../test/model/scripted.ts'
import { guardMentions } from './mentions.ts'

/** What one try has to itself, because the CLI does not put the same file into one conversation twice. */
type Place = {
  n: number
  /** Folder outside the workspace, absolute and relative to the working directory. */
  out: string
  rel: string
  /** Folder inside the workspace, relative to the working directory. */
  in: string
  /** Folder in HOME. */
  home: string
}
type Form = (place: Place) => string

// What CLI 2.1.197 expands. Each must do so without the guard, or the table proves nothing.
const EXPANDED: Record<string, Form> = {
  'an absolute path': ({ out }) => `see @${out}/s.txt please`,
  'at the start of the text': ({ out }) => `@${out}/s.txt`,
  'a file without extension': ({ out }) => `@${out}/plain`,
  'up and out': ({ rel }) => `@${rel}/s.txt`,
  'up and out from a folder below': ({ rel, in: inside }) => `@${inside}/sub/../../${rel}/s.txt`,
  'up and out from a folder that is missing': ({ rel }) => `@missing/../${rel}/s.txt`,
  'up and out from below a file': ({ rel, in: inside }) => `@${inside}/in.txt/../../${rel}/s.txt`,
  'an absolute path that climbs': ({ out }) => `@/a/b/../..${out}/s.txt`,
  'a slash, then up and out': ({ out }) => `@/../../..${out}/s.txt`,
  'dots and slashes': ({ n }) => `@.//..//out/.//${n}//s.txt`,
  'an at sign inside': ({ rel }) => `@x@/../${rel}/s.txt`,
  'the home folder': ({ home }) => `@~/${home}/s.txt`,
  'up and out of the home folder': ({ n }) => `@~/../out/${n}/s.txt`,
  'in quotes': ({ out }) => `@"${out}/s.txt"`,
  'in quotes with spaces': ({ out }) => `see @"${out}/two words.txt" please`,
  'in quotes, relative': ({ rel }) => `@"${rel}/s.txt"`,
  'in quotes, home': ({ home }) => `@"~/${home}/s.txt"`,
  'in quotes after a space': ({ out }) => `@" ${out}/s.txt"`,
  'in quotes after a line end': ({ out }) => `@"\n${out}/s.txt\n"`,
  'in quotes after a space, home': ({ home }) => `@" ~/${home}/s.txt"`,
  'in quotes, up and out from a folder that is missing': ({ rel }) => `@"missing one/../${rel}/s.txt"`,
  'in quotes with lines': ({ out }) => `@"${out}/s.txt"#L1-2`,
  'lines inside the quotes': ({ out }) => `@"${out}/s.txt#L1"`,
  'text right behind the quotes': ({ out }) => `@"${out}/s.txt"and more`,
  lines: ({ out }) => `@${out}/s.txt#L1-2`,
  'a line': ({ out }) => `@${out}/s.txt#L1`,
  'lines twice': ({ out }) => `@${out}/s.txt#L1#L2`,
  'a heading': ({ out }) => `@${out}/s.txt#heading`,
  'a bare number sign': ({ out }) => `@${out}/s.txt#`,
  'a closing parenthesis': ({ out }) => `(see @${out}/s.txt)`,
  'a row of signs': ({ out }) => `@${out}/s.txt!?.,;:)]}'"*`,
  'a slash at the end': ({ out }) => `@${out}/s.txt/`,
  'a backtick at the end': ({ out }) => `@${out}/s.txt\``,
  'a NUL at the end': ({ out }) => `@${out}/s.txt\u0000`,
  'a zero-width space at the end': ({ out }) => `@${out}/s.txt\u200b`,
  'an ideograph at the end': ({ out }) => `@${out}/s.txt末`,
  'an ideographic stop and more': ({ out }) => `@${out}/s.txt。次`,
  'a name in another script, cut back to its folder': ({ out }) => `@${out}/odir/末`,
  'a folder': ({ out }) => `@${out}/odir`,
  'a folder with a slash': ({ out }) => `@${out}/odir/`,
  'a folder by a relative path': ({ rel }) => `@${rel}/odir`,
  'a folder in quotes': ({ out }) => `@"${out}/odir"`,
  'a symlink inside that leads out': ({ in: inside }) => `@${inside}/link.txt`,
  'a symlink to a folder outside': ({ in: inside }) => `@${inside}/linkdir`,
  'a file behind a symlink': ({ in: inside }) => `@${inside}/linkdir/f.txt`,
  'a name with signs': ({ out }) => `@${out}/a,b;c:d(e)'f@g.txt`,
  'a name with accents': ({ out }) => `@${out}/sécret.txt`,
  'through the file system of a process': ({ out }) => `@/proc/self/root${out}/s.txt`,
  'on a later line': ({ out }) => `first\nsecond @${out}/s.txt\nthird`,
  'in a code block': ({ out }) => `\`\`\`\n@${out}/s.txt\n\`\`\``,
  'in a quotation': ({ out }) => `> @${out}/s.txt`,
  'in JSON': ({ out }) => `{"a": " @${out}/s.txt"}`,
  'after a slash command that was made plain': ({ out }) => `\n/init @${out}/s.txt`,
  'after many others': ({ out }) => `${Array.from({ length: 40 }, (_, i) => `@none${i}`).join(' ')} @${out}/s.txt`,
  'after an inside one': ({ out, in: inside }) => `@${inside}/in.txt @${out}/s.txt`,
  'after a lone at sign': ({ out }) => `@ @${out}/s.txt`,
  ...Object.fromEntries(
    [
      '\t',
      '\n',
      '\r',
      '\r\n',
      '\u000b',
      '\f',
      '\u00a0',
      '\u1680',
      '\u2003',
      '\u2028',
      '\u2029',
      '\u202f',
      '\u3000',
      '\ufeff',
      '。',
      '、',
      '？',
      '！',
    ].map((before): [string, Form] => [
      `after ${JSON.stringify(before)} (${before.codePointAt(0)?.toString(16)})`,
      ({ out }) => `a${before}@${out}/s.txt`,
    ]),
  ),
}

// What 2.1.197 leaves alone, so that a new version that does not is noticed; guarded or not, nothing may come of it.
const PLAIN: Record<string, Form> = {
  'a double quote before': ({ out }) => `"@${out}/s.txt"`,
  'a double quote before quotes': ({ out }) => `"@"${out}/s.txt"`,
  'a single quote before': ({ out }) => `'@${out}/s.txt'`,
  'a backtick before': ({ out }) => `\`@${out}/s.txt\``,
  'a letter before': ({ out }) => `x@${out}/s.txt`,
  'a digit before quotes': ({ out }) => `1@"${out}/s.txt"`,
  'an underscore before': ({ out }) => `_@${out}/s.txt`,
  'a zero-width space before': ({ out }) => `a\u200b@${out}/s.txt`,
  'a zero-width space before quotes': ({ out }) => `\u200b@"${out}/s.txt"`,
  'an ideograph before': ({ out }) => `字@${out}/s.txt`,
  'a parenthesis before': ({ out }) => `(@${out}/s.txt)`,
  'two at signs': ({ out }) => `@@${out}/s.txt`,
  'a full-width at sign': ({ out }) => `\uff20${out}/s.txt`,
  'a small at sign': ({ out }) => `\ufe6b${out}/s.txt`,
  'a space behind': ({ out }) => `@ ${out}/s.txt`,
  'single quotes': ({ out }) => `@'${out}/s.txt'`,
  parentheses: ({ out }) => `@(${out}/s.txt)`,
  'quotes that stay open': ({ out }) => `@"${out}/s.txt`,
  'an escaped space': ({ out }) => `@${out}/two\\ words.txt`,
  'an environment variable': ({ home }) => `@$HOME/${home}/s.txt`,
  'an environment variable in braces': ({ home }) => `@\${HOME}/${home}/s.txt`,
  "somebody's home": ({ home }) => `@~root/${home}/s.txt`,
  'a file URL': ({ out }) => `@file://${out}/s.txt`,
  'a server and a file URL': ({ out }) => `@server:file://${out}/s.txt`,
  'percent signs': ({ n }) => `@%2e%2e/out/${n}/s.txt`,
  backslashes: ({ n }) => `@..\\out\\${n}\\s.txt`,
  'two slashes': ({ out }) => `@/${out}/s.txt`,
  'a pattern': ({ out }) => `@${out}/*.txt`,
  'a file inside that mentions one outside': ({ in: inside }) => `@${inside}/nested.txt`,
  'a CLAUDE.md inside that imports one outside': ({ in: inside }) => `@${inside}/CLAUDE.md`,
  'a neighbour of a CLAUDE.md that imports one outside': ({ in: inside }) => `@${inside}/in.txt`,
}

// Mentions that must go on working.
const INSIDE: Record<string, Form> = {
  'a file': ({ in: inside }) => `@${inside}/in.txt`,
  'a file at the end of a sentence': ({ in: inside }) => `look at @${inside}/in.txt.`,
  'a file by its absolute path': ({ out, in: inside }) => `@${out.replace(/out\/\d+$/, 'ws')}/${inside}/in.txt`,
  'a file in quotes': ({ in: inside }) => `@"${inside}/in.txt"`,
  'a file with dots on the way': ({ in: inside }) => `@./${inside}/sub/../in.txt`,
  'lines of a file': ({ in: inside }) => `@${inside}/in.txt#L1-2`,
  'a folder': ({ in: inside }) => `@${inside}/sub`,
  'a symlink that stays inside': ({ in: inside }) => `@${inside}/near.txt`,
}

let base: Awaited<ReturnType<typeof tempFolder>>
let model: Model
let cli: Cli
let ws = ''
let tries = 0

beforeAll(async () => {
  base = await tempFolder()
  ws = join(base.path, 'ws')
  await mkdir(ws)
  await mkdir(join(base.path, 'home'))
  model = await startModel()
  cli = startCli({ env: { ANTHROPIC_BASE_URL: model.url, ANTHROPIC_API_KEY: 'dummy' }, cwd: ws, home: join(base.path, 'home') })
})
afterAll(async () => {
  await cli.close()
  await model.close()
  await base.remove()
})

async function makePlace(): Promise<Place> {
  const n = ++tries
  const [out, inside, home] = [join(base.path, 'out', String(n)), join(ws, String(n)), join(base.path, 'home', String(n))]
  await Promise.all([join(out, 'odir'), join(inside, 'sub'), home].map((folder) => mkdir(folder, { recursive: true })))
  const outside = [
    's.txt',
    'plain',
    'two words.txt',
    'sécret.txt',
    "a,b;c:d(e)'f@g.txt",
    `odir/OUTSIDE-${n}-name.txt`,
    'odir/f.txt',
  ]
  const secret = `OUTSIDE-${n}-content\n`
  await Promise.all([
    ...outside.map((name) => writeFile(join(out, name), secret)),
    writeFile(join(home, 's.txt'), secret),
    writeFile(join(inside, 'in.txt'), `INSIDE-${n}-content\n`),
    writeFile(join(inside, `sub/INSIDE-${n}-name.txt`), ''),
    writeFile(join(inside, 'nested.txt'), `see @${out}/s.txt please\n`),
    writeFile(join(inside, 'CLAUDE.md'), `@${out}/s.txt\n`),
    symlink(join(out, 's.txt'), join(inside, 'link.txt')),
    symlink(join(out, 'odir'), join(inside, 'linkdir')),
    symlink('in.txt', join(inside, 'near.txt')),
  ])
  return { n, out, rel: `../out/${n}`, in: String(n), home: String(n) }
}

/** What the model was sent of the files: `outside` and `inside` name whether their content or names were among it. */
async function send(form: Form, guard: boolean): Promise<{ outside: boolean; inside: boolean }> {
  const place = await makePlace()
  const prompt = form(place)
  const before = model.requests.length
  await cli.turn(guard ? await guardMentions(prompt, ws, [ws]) : prompt)
  const sent = model.requests
    .slice(before)
    .map((request) => request.raw)
    .join()
  return { outside: sent.includes(`OUTSIDE-${place.n}-`), inside: sent.includes(`INSIDE-${place.n}-`) }
}

describe('a mention of something outside the workspace, with the real CLI', () => {
  it.each(Object.keys(EXPANDED))('is expanded by the CLI and not behind the guard: %s', async (name) => {
    const form = EXPANDED[name] ?? String
    expect(await send(form, false)).toMatchObject({ outside: true })
    expect(await send(form, true)).toMatchObject({ outside: false })
  })

  it.each(Object.keys(PLAIN))('is not expanded in any case: %s', async (name) => {
    const form = PLAIN[name] ?? String
    expect(await send(form, false)).toMatchObject({ outside: false })
    expect(await send(form, true)).toMatchObject({ outside: false })
  })
})

describe('a mention of something inside the workspace, with the real CLI', () => {
  it.each(Object.keys(INSIDE))('is expanded behind the guard: %s', async (name) => {
    expect(await send(INSIDE[name] ?? String, true)).toEqual({ inside: true, outside: false })
  })
})
