/**
 * An agent's file as the CLI wants it: it overlooks one whose front matter has no `name` or no `description`, or an empty
 * one (2.1.197). What is missing is the name of the file; whatever else is in it stays.
 */
import type { ConfigFile } from '../shared/config-files.ts'

export function agentFile({ name, content }: Pick<ConfigFile, 'name' | 'content'>): string {
  const front = FRONT.exec(content)?.[1]
  // In quotes, because 1e5 or true would be no text to a reader of YAML.
  const value = JSON.stringify(name)
  if (front === undefined) return `---\nname: ${value}\ndescription: ${value}\n---\n${content}`
  let lines = front.split('\n')
  const missing: string[] = []
  for (const key of ['name', 'description']) {
    const at = lines.findIndex((line) => line.startsWith(`${key}:`))
    if (at >= 0 && !isEmpty(lines[at] ?? '', lines[at + 1])) continue
    missing.push(`${key}: ${value}\n`)
    lines = lines.filter((_, i) => i !== at)
  }
  const begin = content.indexOf('\n') + 1
  if (missing.length === 0) return content
  return content.slice(0, begin) + missing.join('') + lines.join('\n') + content.slice(begin + front.length)
}

/** As the CLI finds it: up to any `---`. */
const FRONT = /^---[^\S\n]*\n([\s\S]*?)---/

/** Nothing behind the key, and nothing further in on the next line. */
function isEmpty(line: string, next = ''): boolean {
  const value = line.slice(line.indexOf(':') + 1).trim()
  return (value === '' || value === "''" || value === '""' || value.startsWith('#')) && !/^\s+\S/.test(next)
}
