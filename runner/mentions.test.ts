import { mkdir, symlink, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import * as fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { tempFolder } from '../test/model/claude.ts'
import { guardMentions } from './mentions.ts'

let base: Awaited<ReturnType<typeof tempFolder>>
let root = ''
let cwd = ''

beforeAll(async () => {
  base = await tempFolder()
  root = join(base.path, 'root')
  cwd = join(root, 'app')
  await mkdir(join(cwd, 'src'), { recursive: true })
  await mkdir(join(base.path, 'other'))
  await writeFile(join(root, 'shared.txt'), '')
  await writeFile(join(cwd, 'in.txt'), '')
  await symlink(join(base.path, 'other'), join(cwd, 'out'))
  await symlink(join(base.path, 'missing'), join(cwd, 'dangling'))
  await symlink('loop', join(cwd, 'loop'))
  await symlink('in.txt', join(cwd, 'near.txt'))
  await symlink(root, join(base.path, 'alias'))
})
afterAll(() => base.remove())

const guard = (prompt: string): Promise<string> => guardMentions(prompt, cwd, [root])
const broken = (prompt: string): string => prompt.replaceAll('@', '\u200b@\u200b')

describe('guardMentions', () => {
  it.each([
    'no mention at all',
    'npm i @types/node @scope/pkg@1.2.3',
    'write to ann@example.com or <bob@example.com>, or git clone git@example.com:a/b.git',
    'import { x } from \'@/components\' and "@/lib" and `@/x`',
    '@Override public void a(@Nullable String b) // @param c',
    '@in.txt, @src/ and @"in.txt" and @./src/../in.txt#L1-5',
    'a file of the same root: @../shared.txt',
    '@near.txt @missing.txt @missing/too.txt @in.txt/below',
    '@ alone, @, and at the end @',
    '\u200b@\u200b/etc/passwd was broken before',
  ])('leaves %j as it is', async (prompt) => {
    expect(await guard(prompt)).toBe(prompt)
  })

  it.each([
    '@/etc/hostname',
    '@/nowhere',
    '@//etc/hostname',
    '@~',
    '@~/x',
    '@~root/x',
    '@"~/x"',
    '@" ~/x"',
    '@../../x',
    '@"../../x y"',
    '@src/../../../x',
    '@missing/../../../x',
    '@in.txt/../../../x',
    '@out',
    '@out/x',
    '@out#L1',
    '@out.',
    '@out/',
    '@out末',
    '@dangling',
    '@dangling/x',
    '@loop',
    '@$HOME/x',
    '@${HOME}/x',
    '@file:///etc/passwd',
    '@server:file:///etc/passwd',
    '@(/etc/passwd)',
    "@'/etc/passwd'",
    '@“/etc/passwd”',
    '@../..',
    '@in.txt\u0000',
    '@/etc/x\u0000',
    '@\u200b/etc/passwd',
    '(@/etc/passwd)',
    '字@/etc/passwd',
  ])('breaks %j', async (prompt) => {
    expect(await guard(prompt)).toBe(broken(prompt))
  })

  it('breaks only the mention that leads out', async () => {
    expect(await guard('see @in.txt, @/etc/hostname and @src')).toBe('see @in.txt, \u200b@\u200b/etc/hostname and @src')
    expect(await guard('@@/etc/hostname')).toBe('@\u200b@\u200b/etc/hostname')
  })

  it('breaks the same mentions outside whether or not they exist', async () => {
    const [there, missing] = await Promise.all([guard(`@${base.path}/other`), guard(`@${base.path}/none`)])
    expect([there, missing]).toEqual([broken(`@${base.path}/other`), broken(`@${base.path}/none`)])
  })

  it('takes another name of the root for the root', async () => {
    const prompt = `@${join(base.path, 'alias/app/in.txt')}`
    expect(await guard(prompt)).toBe(broken(prompt))
    expect(await guardMentions(prompt, cwd, [join(base.path, 'alias')])).toBe(prompt)
  })

  it('counts only the root that holds the working directory, and breaks all where none does', async () => {
    const prompt = `@${join(base.path, 'other')} @in.txt`
    expect(await guardMentions(prompt, cwd, [root, join(base.path, 'other')])).toBe(
      `${broken(prompt.split(' ')[0] ?? '')} @in.txt`,
    )
    expect(await guardMentions('@in.txt', cwd, [join(base.path, 'other')])).toBe(broken('@in.txt'))
  })

  it('breaks what is too long, too intricate or too much to look at', async () => {
    expect(await guard(`@${'a'.repeat(1_025)}`)).toBe(broken(`@${'a'.repeat(1_025)}`))
    expect(await guard(`@in.txt${'.'.repeat(40)}`)).toBe(broken(`@in.txt${'.'.repeat(40)}`))
    const many = Array.from({ length: 2_100 }, (_, i) => `@none${i}`)
    const guarded = (await guard(many.join(' '))).split(' ')
    expect([guarded[0], guarded.at(-1)]).toEqual(['@none0', broken('@none2099')])
  })

  it.each(['@', '@/.', '@"', '@a ', `@${'a/'.repeat(400)} `, `@${'#/'.repeat(200)}`])(
    'is done with a megabyte of %j in seconds',
    async (piece) => {
      const began = performance.now()
      await guard(piece.repeat(1_000_000 / piece.length))
      expect(performance.now() - began).toBeLessThan(8_000)
    },
  )
})

// Text as an attacker would write it: the signs that mean something to the CLI, glued at random.
const piece = fc.constantFrom(
  '@',
  '@',
  '"',
  "'",
  '`',
  ' ',
  '\n',
  '\u00a0',
  '\u3000',
  '。',
  '/',
  '..',
  '../',
  '../../',
  './',
  '~',
  '~/',
  '#',
  '#L1',
  '.',
  ')',
  'in.txt',
  'src',
  'out',
  'x',
  '末',
  '/etc/hostname',
  'missing/',
  '$HOME',
  'file:',
  '\\',
  '\u0000',
  '\u200b',
  '\ufeff',
  'loop',
  'dangling',
)
const text = fc.oneof(
  fc.array(piece, { maxLength: 14 }).map((pieces) => pieces.join('')),
  fc.string({ unit: 'binary', maxLength: 60 }),
)

/** What CLI 2.1.197 would open, written down a second time as the plain pattern that its behaviour suggests. */
function opened(prompt: string): string[] {
  const quoted = [...prompt.matchAll(/(?:^|[\s。、？！])@"([^"]+)"/g)].map((match) => match[1] ?? '')
  const bare = [...prompt.matchAll(/(?:^|[\s。、？！])@([^\s]+)\b/g)].map((match) => match[1] ?? '')
  return [...quoted, ...bare].map((path) => (path.split('#')[0] ?? '').trim())
}

describe('for any text', () => {
  it('changes nothing but an `@`, and that only by a break on either side', async () => {
    const property = fc.asyncProperty(text, async (prompt) => {
      const between = prompt.split('@').map((words) => words.replaceAll(/[\\^$.*+?()[\]{}|]/g, '\\$&'))
      return new RegExp(`^${between.join('(?:@|\u200b@\u200b)')}$`).test(await guard(prompt))
    })
    expect(await fc.check(property, { numRuns: 1_000 })).toMatchObject({ failed: false })
  })

  it('leaves nothing that the CLI would open outside', async () => {
    const leaks = (path: string): boolean =>
      path.startsWith('~') ||
      (path !== '' && !`${resolve(cwd, path)}/`.startsWith(`${root}/`)) ||
      /^(?:\.\/)*(?:src\/\.\.\/)*(?:out|dangling|loop)(?:\/|$)/.test(path)
    const property = fc.asyncProperty(text, async (prompt) => opened(await guard(prompt)).every((path) => !leaks(path)))
    expect(await fc.check(property, { numRuns: 2_000 })).toMatchObject({ failed: false })
  })

  it('does not change its own answer', async () => {
    const property = fc.asyncProperty(text, async (prompt) => {
      const once = await guard(prompt)
      return (await guard(once)) === once
    })
    expect(await fc.check(property, { numRuns: 1_000 })).toMatchObject({ failed: false })
  })
})
