import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { describe, expect, it } from 'vitest'

const root = join(import.meta.dirname, '..')
const pages = ['README.md', 'CHANGELOG.md', 'bench/README.md', ...under('docs')].filter((page) => existsSync(join(root, page)))

function under(folder: string): string[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' }).flatMap((name) => (name.endsWith('.md') ? `${folder}/${name}` : []))
}

/** Links of a page to files of ours, less what is in code. */
function linksOf(page: string): { target: string; anchor: string | undefined }[] {
  const text = readFileSync(join(root, page), 'utf8').replaceAll(/```[\s\S]*?```|`[^`\n]*`/g, '')
  return [...text.matchAll(/\]\(([^)\s]+)\)/g)]
    .map(([, link]) => link!)
    .filter((link) => !/^[a-z]+:/i.test(link))
    .map((link) => {
      const [target = '', anchor] = link.split('#')
      return { target: target === '' ? page : join(dirname(page), target), anchor }
    })
}

/** As GitHub makes them of headings. */
function anchorsOf(page: string): string[] {
  const headings = readFileSync(join(root, page), 'utf8').matchAll(/^#+ (.*)$/gm)
  return [...headings].map(([, heading]) => heading!.toLowerCase().replaceAll(/[^\p{L}\p{N} _-]/gu, '').replaceAll(' ', '-'))
}

describe('the pages', () => {
  it.each(pages)('%s links to what is there', (page) => {
    const broken = linksOf(page).filter(({ target, anchor }) => {
      if (!existsSync(join(root, target))) return true
      return anchor !== undefined && target.endsWith('.md') && !anchorsOf(target).includes(anchor)
    })
    expect(broken).toEqual([])
  })

  it('are all reached from the README', () => {
    const seen = new Set<string>()
    const follow = (page: string) => {
      if (seen.has(page) || !page.endsWith('.md') || !existsSync(join(root, page))) return
      seen.add(page)
      for (const { target } of linksOf(page)) follow(target)
    }
    follow('README.md')
    expect(under('docs').filter((page) => !seen.has(page) && !page.startsWith('docs/decisions/'))).toEqual([])
  })
})
